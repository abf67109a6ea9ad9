"""Typed messages over a socket pair between control and one child.

SOCK_SEQPACKET keeps messages whole (unix(7)): a child that is stopped or killed in the middle of a `send` can never
leave half a message, on which the reader would block.
"""

import select
import socket
import threading
from typing import Any, Final, Generic, TypeVar

import msgspec

from agent.messages.children import Message
from agent.messages.errors import TransientError

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""Fits the kernel's default socket buffer (net.core.wmem_default, 208 KiB) beside its own bookkeeping."""

Incoming = TypeVar("Incoming", bound=Message)


class ChannelClosedError(TransientError):
    """The peer closed the channel, stopped reading, or sent an invalid message."""


class Channel(Generic[Incoming]):
    """One end. `send` may be called from any thread; `receive` from one thread at a time."""

    def __init__(self, end: socket.socket, incoming: Any, *, patient: bool = True) -> None:  # noqa: ANN401
        """Store; `incoming` is the union of message types that this end accepts (a union has no type of its own).

        A patient end waits while the other does not read; control's is not, since it must never wait for a child.
        """
        self._end: Final = end
        self._send_flags: Final = 0 if patient else socket.MSG_DONTWAIT
        self._buffer: Final = memoryview(bytearray(MAX_MESSAGE_BYTES))
        self._encoder: Final = msgspec.msgpack.Encoder()
        self._decoder: Final[msgspec.msgpack.Decoder[Incoming]] = msgspec.msgpack.Decoder(incoming)
        self._sending: Final = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to wait on for reading."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send whole, or raise ChannelClosedError."""
        try:
            with self._sending:
                self._end.send(self._encoder.encode(message), self._send_flags)
        except OSError as error:
            raise ChannelClosedError(f"cannot send a {type(message).__name__}: {error}") from error

    def receive(self, timeout_s: float | None = None) -> Incoming | None:
        """Return the next message, None when `timeout_s` passes without one; without a time-out, wait for ever."""
        try:
            if timeout_s and not _readable(self._end, timeout_s):
                return None
            size = self._end.recv_into(self._buffer, 0, 0 if timeout_s is None else socket.MSG_DONTWAIT)
            if size == 0:
                raise ChannelClosedError("the other side closed the channel")
            return self._decoder.decode(self._buffer[:size])
        except BlockingIOError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            raise ChannelClosedError(f"cannot receive: {error}") from error

    def close(self) -> None:
        """Close this end; the other side sees its end of file."""
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected ends: control's, and the one whose descriptor a child inherits."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _readable(end: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
