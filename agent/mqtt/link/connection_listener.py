"""What a connection needs of the link that owns it."""

from typing import Protocol

from agent.messages.children import Message


class ConnectionListener(Protocol):
    """Whom a connection tells what happened; on the loop's thread, never inside one of paho's callbacks."""

    def connection_up(self) -> None:
        """CONNACK came, and was good."""

    def connection_down(self) -> None:
        """Read in `ended` why. Called once, after everything that was heard before."""

    def subscribed(self, filter_: str, code: int) -> None:
        """Take the answer to a SUBSCRIBE: a granted QoS, or a reason code of 0x80 or more."""

    def heard(self, message: Message) -> None:
        """Received, LinkTrouble or LinkTakenOver."""

    def echoed(self, payload: bytes) -> None:
        """Take the link's own ping, come back."""
