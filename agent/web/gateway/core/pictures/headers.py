"""Kind and size of an encoded picture, by its header alone, which is bounded before a library parses it."""

import re
from typing import Final

from agent.web.gateway.core.faults import RequestError, invalid

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
WEBP: Final = "image/webp"
MEDIA: Final = (JPEG, PNG, WEBP)
_MOST_SEGMENTS: Final = 1024
"""Of a JPEG's header. Pillow parses these headers in Python, where millions of empty parts would take a minute."""
_MOST_HEADER_BYTES: Final = 4 << 20
_LENGTH_BYTES: Final = 2
"""Of a segment's length, which counts itself."""
_MOST_JUNK_BYTES: Final = 4096
"""Of a JPEG's header, between its segments."""
_MOST_CHUNKS, _MOST_OTHER_CHUNKS = 20_000, 256
"""Of a PNG: in all, and of those that hold no pixels; each of these may be inflated to 1 MiB."""
_PIXELS: Final = (b"IDAT", b"fdAT")
_MOST_SCANS: Final = 100
"""Of a JPEG. Each takes time for all pixels, however few bytes it has; encoders write some 10."""
_MOST_DECODED_PIXELS: Final = 1 << 24
"""A small file may hold a picture of gigabytes, and decoders take up to 16 bytes a pixel."""
_MOST_JPEG_PIXELS: Final = 1 << 26
"""Of a JPEG in one scan, which is decoded row by row and to a half or a quarter."""
_LONGEST_SIDE: Final = 32_768
_MARKER: Final = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_START_OF_SCAN: Final = 0xDA
_END: Final = 0xD9
_SCAN: Final = b"\xff\xda"
_SEQUENTIAL: Final = (0xC0, 0xC1, 0xC9)
"""Frames that may hold all pixels in one scan."""
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of segments that state the size."""
_SEGMENTS: Final = _FRAMES | {0xC4, 0xCC, 0xFE} | set(range(0xDB, 0xE0)) | set(range(0xE0, 0xF0))
_MARKER_BEHIND_PIXELS: Final = re.compile(
    b"\xff([" + re.escape(bytes(sorted(_SEGMENTS | {_START_OF_SCAN, _END}))) + b"])",
)
_EMPTY: Final = frozenset({0x00, *range(0xD0, 0xD8)})
"""Bytes after 0xFF that begin no segment: an escaped byte, and restarts."""
_Size = tuple[int, int]


def media_of(content: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return JPEG
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    return WEBP if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ""


def size_of(content: bytes) -> _Size:
    """Return width and height in pixels as the header says.

    Raises RequestError("invalid") where it is broken, or decoding would take too much memory or time.
    """
    media = media_of(content)
    if media == JPEG:
        size, most = _of_jpeg(content)
    else:
        size, most = {PNG: _of_png, WEBP: _of_webp}.get(media, _of_none)(content), _MOST_DECODED_PIXELS
    if not all(size):
        raise broken()
    require_small(size, most)
    return size


def require_small(size: _Size, most: int = _MOST_JPEG_PIXELS) -> None:
    """Raise RequestError("invalid") for a width and height of more than `most` pixels, or with too long a side."""
    width, height = size
    if max(size) > _LONGEST_SIDE or width * height > most:
        raise invalid(
            f"a picture of {width} x {height} is too large: send one of at most {most // 1_000_000} million pixels,"
            f" {_LONGEST_SIDE} a side"
        )


def broken() -> RequestError:
    """Return the refusal of what is no picture."""
    return invalid("the body is no picture that can be decoded")


def _of_none(_content: bytes) -> _Size:
    raise broken()


def _of_jpeg(content: bytes) -> tuple[_Size, int]:
    """Return width and height, and the pixels that such a JPEG may have."""
    at, junk, size = 2, 0, (0, 0)
    channels = 0
    for _ in range(_MOST_SEGMENTS):
        found = _MARKER.search(content, at, at + _MOST_JUNK_BYTES)
        if found is None:
            break
        kind = found[1][0]
        junk += found.start(1) - at - 1
        at = found.end()
        if at > _MOST_HEADER_BYTES or junk > _MOST_JUNK_BYTES:
            break
        if kind == _START_OF_SCAN:
            _require_few_scans(content, at)
            is_in_one_scan = channels and content[at + 2 : at + 3] == bytes((channels,))
            return size, _MOST_JPEG_PIXELS if is_in_one_scan else _MOST_DECODED_PIXELS
        if kind in _EMPTY:
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if kind not in _SEGMENTS or length < _LENGTH_BYTES:
            break
        if kind in _FRAMES:
            size = (int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 3 : at + 5], "big"))
            channels = int.from_bytes(content[at + 7 : at + 8], "big") if kind in _SEQUENTIAL else 0
        at += length
    raise broken()


def _require_few_scans(content: bytes, at: int) -> None:
    """Raise RequestError("invalid") for a JPEG with too many scans; `at` is behind the first one's marker."""
    if content.count(_SCAN, at) < _MOST_SCANS:
        return  # most files, at once; others may have pictures or films behind their end
    scans = 1
    for _ in range(_MOST_SEGMENTS):
        at += int.from_bytes(content[at : at + 2], "big")
        found = _MARKER_BEHIND_PIXELS.search(content, at)
        if found is None or found[1][0] == _END:
            return
        scans += found[1][0] == _START_OF_SCAN
        if scans > _MOST_SCANS:
            break
        at = found.end()
    raise invalid(f"the JPEG has more than {_MOST_SCANS} scans: send it with fewer, or not progressive")


def _of_png(content: bytes) -> _Size:
    at, others = 8, 0
    for _ in range(_MOST_CHUNKS):
        kind = content[at + 4 : at + 8]
        others += kind not in _PIXELS
        at += 12 + int.from_bytes(content[at : at + 4], "big")
        if others > _MOST_OTHER_CHUNKS:
            break
        if kind == b"IEND" or at >= len(content):
            return int.from_bytes(content[16:20], "big"), int.from_bytes(content[20:24], "big")
    raise broken()


def _of_webp(content: bytes) -> _Size:
    kind = content[12:16]
    if kind == b"VP8X":
        return int.from_bytes(content[24:27], "little") + 1, int.from_bytes(content[27:30], "little") + 1
    if kind == b"VP8L":
        sides = int.from_bytes(content[21:25], "little")
        return (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(content[26:28], "little") & 0x3FFF, int.from_bytes(content[28:30], "little") & 0x3FFF
    raise broken()
