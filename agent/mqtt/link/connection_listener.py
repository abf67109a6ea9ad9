"""Interface through which a connection reports events."""

from typing import Protocol

from agent.messages.children import Message


class ConnectionListener(Protocol):
    """Receiver of a connection's events, on the loop's thread and never inside a paho callback."""

    def connection_up(self) -> None:
        """Handle an accepted connection."""

    def connection_down(self) -> None:
        """Handle the loss of the connection, once and last; `life` holds the reason."""

    def subscribed(self, filter_: str, code: int) -> None:
        """Handle the answer to a SUBSCRIBE: a granted QoS, or a reason code of 0x80 or more."""

    def heard(self, message: Message) -> None:
        """Handle Received, LinkTrouble or LinkTakenOver."""

    def echoed(self, payload: bytes) -> None:
        """Handle an echo of the link's own ping."""
