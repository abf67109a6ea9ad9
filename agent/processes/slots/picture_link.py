"""Link of one stream between its camera process and the web process: the one asks for a picture, the other sends it.

A socket pair keeps messages whole (SOCK_SEQPACKET). Control makes it and holds both ends, so that either process may
end and be replaced. No side waits: a request or picture that does not fit is dropped, and asked for again. A request is
one byte, the size; a picture is a header of fixed size and a JPEG file.
"""

import os
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

_HEADER: Final = struct.Struct("<QQHHB")
MOST_BYTES: Final = 160 * 1024
"""Limit of a JPEG file, below the kernel's default socket buffer of 208 KiB."""
_WAITING_REQUESTS: Final = 64


class Size(IntEnum):
    """Sizes in which pictures are encoded, so that a small tile and a slow link need not take the largest."""

    SMALL = 1
    MEDIUM = 2
    LARGE = 3

    @property
    def longest_side(self) -> int:
        """Pixels of the longer side; a smaller frame keeps its own."""
        return (320, 480, 960)[self - 1]

    @property
    def wanted_bytes(self) -> int:
        """File size at which the encoder aims."""
        return (10, 24, 64)[self - 1] * 1024


@dataclass(frozen=True)
class Picture:
    """One encoded frame; `width` and `height` are those of the JPEG, in pixels."""

    frame: int
    """Number of the frame in its slot, as in detections."""
    captured_unix_ns: int
    width: int
    height: int
    jpeg: bytes
    size: Size
    """As it was asked for."""


class PictureLink:
    """Control's side, which owns both ends from its creation to `close`."""

    def __init__(self) -> None:
        self._camera, self._web = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    @property
    def camera_end(self) -> int:
        """Descriptor for the camera process (`pass_fds`); this object closes it."""
        return self._camera.fileno()

    @property
    def web_end(self) -> int:
        """Descriptor for the web process; this object closes it."""
        return self._web.fileno()

    def close(self) -> None:
        """Close both ends."""
        self._camera.close()
        self._web.close()


class PictureSender:
    """Camera process's end; for one thread that asks, and one that sends."""

    def __init__(self, descriptor: int) -> None:
        self._end: Final = _socket(descriptor)

    def asked(self) -> set[Size]:
        """Return the sizes that were asked for since the last call."""
        found: set[int] = set()
        with suppress(OSError):  # EAGAIN once all are read
            for _ in range(_WAITING_REQUESTS):
                found.update(self._end.recv(1, socket.MSG_DONTWAIT))
        return {size for size in Size if size in found}

    def send(self, picture: Picture) -> bool:
        """Send a picture; False where the reader's buffer is full, or the picture is too large."""
        if len(picture.jpeg) > MOST_BYTES:
            return False
        header = _HEADER.pack(picture.frame, picture.captured_unix_ns, picture.width, picture.height, int(picture.size))
        try:
            self._end.sendmsg([header, picture.jpeg], [], socket.MSG_DONTWAIT)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Close this end."""
        self._end.close()


class PictureReceiver:
    """Web process's end; for one thread."""

    def __init__(self, descriptor: int) -> None:
        self._end: Final = _socket(descriptor)

    def fileno(self) -> int:
        """Return a descriptor that is readable when a picture waits."""
        return self._end.fileno()

    def ask(self, size: Size) -> None:
        """Ask for the next frame's picture."""
        try:
            self._end.send(bytes((size,)), socket.MSG_DONTWAIT)
        except OSError:
            return  # requests wait already, and the camera takes them with its next frame

    def receive(self) -> Picture | None:
        """Return a waiting picture; None without one, or for a message that is none."""
        try:
            data = self._end.recv(_HEADER.size + MOST_BYTES, socket.MSG_DONTWAIT)
        except OSError:
            return None
        if len(data) <= _HEADER.size:
            return None
        frame, captured_unix_ns, width, height, size = _HEADER.unpack_from(data)
        if size not in set(Size):
            return None
        return Picture(frame, captured_unix_ns, width, height, data[_HEADER.size :], Size(size))

    def close(self) -> None:
        """Close this end."""
        self._end.close()


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=os.dup(descriptor))
