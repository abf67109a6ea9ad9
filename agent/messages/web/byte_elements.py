"""Elements of a BYTES tensor in one run of bytes: each has its length before it, as 4 bytes, little-endian."""

import struct
from collections.abc import Iterable
from typing import Final

_LENGTH: Final = struct.Struct("<I")
MOST_ELEMENTS: Final = 65_536
"""Elements of one tensor, because each takes fifty bytes more in memory than on the way."""


def split(raw: bytes | memoryview) -> list[bytes]:
    """Return the elements. Raises ValueError where their lengths do not fit, or they are more than MOST_ELEMENTS."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if at + _LENGTH.size > len(raw):
            raise ValueError("ends within an element's length")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + size > len(raw):
            raise ValueError("ends within an element")
        if len(found) >= MOST_ELEMENTS:
            raise ValueError(f"has more than {MOST_ELEMENTS} elements")
        found.append(bytes(raw[at : at + size]))
        at += size
    return found


def joined(found: Iterable[bytes]) -> bytes:
    """Return elements as one run of bytes."""
    return b"".join(part for one in found for part in (_LENGTH.pack(len(one)), one))
