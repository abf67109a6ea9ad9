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
_MARKER: Final = re.compile(rb"\xff+([^\xff])", re.DOTALL)
_START_OF_SCAN: Final = 0xDA
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of segments that state the size."""
_SEGMENTS: Final = _FRAMES | {0xC4, 0xCC, 0xFE} | set(range(0xDB, 0xE0)) | set(range(0xE0, 0xF0))
_EMPTY: Final = frozenset({0x00, *range(0xD0, 0xD8)})
"""What follows 0xFF without being a segment: an escaped byte, and restarts."""
_Size = tuple[int, int]


def media_of(content: bytes) -> str:
    """Return the media type of a picture by its first bytes; empty for anything else."""
    if content.startswith(b"\xff\xd8\xff"):
        return JPEG
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return PNG
    return WEBP if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else ""


def size_of(content: bytes) -> _Size:
    """Return width and height in pixels as the header says. Raises RequestError("invalid") for a broken one."""
    reader = {JPEG: _of_jpeg, PNG: _of_png, WEBP: _of_webp}.get(media_of(content))
    size = reader(content) if reader is not None else (0, 0)
    if not all(size):
        raise broken()
    return size


def broken() -> RequestError:
    """Return the refusal of what is no picture."""
    return invalid("the body is no picture that can be decoded")


def _of_jpeg(content: bytes) -> _Size:
    at, junk, size = 2, 0, (0, 0)
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
            return size
        if kind in _EMPTY:
            continue
        length = int.from_bytes(content[at : at + 2], "big")
        if kind not in _SEGMENTS or length < _LENGTH_BYTES:
            break
        if kind in _FRAMES:
            size = (int.from_bytes(content[at + 5 : at + 7], "big"), int.from_bytes(content[at + 3 : at + 5], "big"))
        at += length
    raise broken()


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
