"""Typed messages over a socket pair between control and one child."""

import threading
from multiprocessing.connection import Connection
from socket import AF_UNIX, SOCK_STREAM, socketpair
from typing import Any, Final, Generic, TypeVar

import msgspec

from agent.messages.children import Message
from agent.messages.errors import TransientError

Incoming = TypeVar("Incoming", bound=Message)


class ChannelClosedError(TransientError):
    """The other side is gone, or sent what is no message of its kind."""


class Channel(Generic[Incoming]):
    """One end. `send` may be called from any thread; `receive` from one thread at a time."""

    def __init__(self, connection: Connection, incoming: Any) -> None:  # noqa: ANN401 - a union of types has no type
        """`incoming` is the union of message types that this end accepts."""
        self._connection: Final = connection
        self._encoder: Final = msgspec.msgpack.Encoder()
        self._decoder: Final[msgspec.msgpack.Decoder[Incoming]] = msgspec.msgpack.Decoder(incoming)
        self._sending: Final = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to wait on for reading."""
        return self._connection.fileno()

    def send(self, message: Message) -> None:
        """Send whole, or raise ChannelClosedError. Blocks while the other side does not read."""
        try:
            with self._sending:
                self._connection.send_bytes(self._encoder.encode(message))
        except (OSError, ValueError) as error:
            raise ChannelClosedError(f"the channel is closed: {error}") from error

    def receive(self, timeout_s: float | None = None) -> Incoming | None:
        """Return the next message, None when `timeout_s` passes without one; None as timeout waits for ever."""
        try:
            if not self._connection.poll(timeout_s):
                return None
            return self._decoder.decode(self._connection.recv_bytes())
        except (OSError, EOFError, ValueError, msgspec.DecodeError) as error:
            raise ChannelClosedError(f"the channel is closed: {error!r}") from error

    def close(self) -> None:
        """Close this end; the other side sees its end of file."""
        self._connection.close()


def pair() -> tuple[Connection, Connection]:
    """Return two connected ends: control's, and the one whose descriptor a child inherits."""
    ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
    return Connection(ours.detach()), Connection(theirs.detach())
