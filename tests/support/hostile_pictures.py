"""Pictures with EXIF, segments and canvases as a hostile client would write them."""

import io
import struct
from typing import Any

from PIL import Image

ORIENTATION = 0x0112


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:  # noqa: ANN401 - Pillow's options
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def segment(kind: int, content: bytes = b"") -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content


def exif_of(*entries: bytes, order: str = "<", more: bytes = b"") -> bytes:
    """Return EXIF with one directory, and what its entries point at behind that."""
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(entries))
    return start + b"".join(entries) + bytes(4) + more


def oriented(order: str, kind: int = 3, count: int = 1, orientation: int = 6) -> bytes:
    return struct.pack(order + "HHIHxx", ORIENTATION, kind, count, orientation)


def swollen_exif() -> bytes:
    """Return EXIF of 2,000 entries, of which all but the first are the same 200 kB."""
    entries = [struct.pack("<HHII", 0x8000 + number, 7, 200_000, 24_100) for number in range(1999)]
    return exif_of(oriented("<"), *entries, more=bytes(200_200))


def in_parts(exif: bytes) -> bytes:
    """Return a JPEG whose EXIF is spread over as many segments as it takes, which Pillow joins."""
    content = saved(Image.new("RGB", (61, 47)), "JPEG")
    parts = [exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
    return content[:2] + b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts) + content[2:]


def animated(side: int) -> bytes:
    """Return an animated WebP of one frame of 2 x 2 in a square canvas."""
    frame = saved(Image.new("RGB", (2, 2)), "WEBP", lossless=True)[12:]
    canvas = (side - 1).to_bytes(3, "little") * 2
    parts = (
        (b"VP8X", b"\x02\0\0\0" + canvas),
        (b"ANIM", bytes(6)),
        (b"ANMF", bytes(6) + b"\1\0\0\1\0\0" + bytes(4) + frame),
    )
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(content)) + content for kind, content in parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
