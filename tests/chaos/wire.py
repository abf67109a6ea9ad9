"""Reads MQTT as it passes: what was published, and what was acknowledged."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CONNECT: Final = 1
PUBLISH: Final = 3
PUBACK: Final = 4
_NUMBERED: Final = re.compile(rb'"boot":"(\w+)".*?"seq":(\d+)')


@dataclass(frozen=True)
class Published:
    """A PUBLISH at QoS 1."""

    packet: int
    topic: str
    payload: bytes

    @property
    def key(self) -> tuple[str, str, int] | None:
        """Return (boot, stream, seq) of a detection, live or replayed."""
        levels = self.topic.split("/")
        found = _NUMBERED.search(self.payload)
        if levels[-1] not in {"detections", "replay"} or found is None:
            return None
        return found[1].decode(), levels[-2], int(found[2])


def whole(kind: int, flags: int, body: bytes) -> bytes:
    """Return a packet as it is on the wire."""
    length, size = b"", len(body)
    while True:
        size, byte = size // 128, size % 128
        length += bytes([byte | (128 if size else 0)])
        if not size:
            return bytes([kind << 4 | flags]) + length + body


class Reader:
    """Takes one direction of one connection, byte by byte if need be."""

    def __init__(self) -> None:
        self.version = 4
        self._pending = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes, int]]:
        """Yield (type, body, flags) of each packet that is whole."""
        self._pending += data
        while (found := _header(self._pending)) is not None:
            start, length = found
            if len(self._pending) < start + length:
                return
            first, body = self._pending[0], self._pending[start : start + length]
            self._pending = self._pending[start + length :]
            if first >> 4 == CONNECT:
                self.version = body[6]
            yield first >> 4, body, first & 15

    def published(self, body: bytes, flags: int) -> Published | None:
        """Read a PUBLISH; None at QoS 0."""
        if not flags & 2:
            return None
        end = 2 + int.from_bytes(body[:2], "big")
        topic, packet = body[2:end].decode(), int.from_bytes(body[end : end + 2], "big")
        rest = body[end + 2 :]
        if self.version >= 5:
            length, size = _varint(rest)
            rest = rest[size + length :]
        return Published(packet, topic, rest)


def _header(data: bytes) -> tuple[int, int] | None:
    for size in range(1, 5):
        if len(data) <= size:
            return None
        if not data[size] & 128:
            return 1 + size, _varint(data[1:])[0]
    return None


def _varint(data: bytes) -> tuple[int, int]:
    value = 0
    for size, byte in enumerate(data[:4]):
        value |= (byte & 127) << (7 * size)
        if not byte & 128:
            return value, size + 1
    return value, 4
