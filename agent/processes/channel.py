"""Typed messages over a socket pair between control and one child.

SOCK_SEQPACKET keeps messages whole (unix(7)), so a child killed during `send` leaves no partial message, on which the
reader would block.
"""

import select
import socket
import threading
from typing import Any, Final, Generic, TypeVar

import msgspec

from agent.messages.children import Message
from agent.messages.errors import MistakeError, TransientError

MAX_MESSAGE_BYTES: Final = 128 * 1024
"""Limit that leaves the kernel's default socket buffer (net.core.wmem_default, 208 KiB) room for its bookkeeping."""

Incoming = TypeVar("Incoming", bound=Message)


class ChannelClosedError(TransientError):
    """The peer closed the channel, stopped reading, or sent an invalid message."""


class MessageTooLargeError(MistakeError):
    """A message exceeds MAX_MESSAGE_BYTES; nothing was sent, and the channel stays usable."""


class Channel(Generic[Incoming]):
    """One end of a channel; any thread may call `send`, one thread at a time `receive`."""

    def __init__(self, end: socket.socket, incoming: Any, *, patient: bool = True) -> None:  # noqa: ANN401
        """Store the socket and `incoming`, the union of accepted message types (typed Any because a union has no type).

        With `patient`, `send` waits for a peer that does not read; else it fails at once, as control must not wait.
        """
        self._end: Final = end
        self._send_flags: Final = 0 if patient else socket.MSG_DONTWAIT
        self._buffer: Final = memoryview(bytearray(MAX_MESSAGE_BYTES))
        self._encoder: Final = msgspec.msgpack.Encoder()
        self._decoder: Final[msgspec.msgpack.Decoder[Incoming]] = msgspec.msgpack.Decoder(incoming)
        self._sending: Final = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor that is readable when a message waits."""
        return self._end.fileno()

    def send(self, message: Message) -> None:
        """Send a message. Raises MessageTooLargeError; ChannelClosedError where the peer is gone or does not read."""
        kind = type(message).__name__
        try:
            with self._sending:
                data = self._encoder.encode(message)
                if len(data) > MAX_MESSAGE_BYTES:
                    raise MessageTooLargeError(f"a {kind} of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are sent")
                self._end.send(data, self._send_flags)
        except OSError as error:
            raise ChannelClosedError(f"cannot send a {kind}: {error}") from error

    def receive(self, timeout_s: float | None = None) -> Incoming | None:
        """Return the next message, or None after `timeout_s`; without a timeout, wait for ever.

        Raises ChannelClosedError at the end of file and for an invalid message.
        """
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
        """Close this end; the peer reads an end of file."""
        self._end.close()


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets: control's, and the one that a child inherits."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def _readable(end: socket.socket, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(end, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
