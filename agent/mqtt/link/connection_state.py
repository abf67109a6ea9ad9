"""States of a connection, and the causes of its end."""

from enum import Enum
from typing import Final


class ConnectionState(Enum):
    """State of a connection."""

    CONNECTING = "CONNECT is sent"
    ACCEPTED = "the broker accepted; the listener is not told yet"
    UP = "the listener was told"
    FAILED = "over before it was accepted"
    LOST = "over after it was accepted"


MOVES: Final = {
    ConnectionState.CONNECTING: {ConnectionState.ACCEPTED, ConnectionState.FAILED},
    ConnectionState.ACCEPTED: {ConnectionState.UP, ConnectionState.LOST},
    ConnectionState.UP: {ConnectionState.LOST},
    ConnectionState.FAILED: set(),
    ConnectionState.LOST: set(),
}
"""The allowed next states of each state."""


class Cause(Enum):
    """Cause of a connection's end."""

    UNSUPPORTED = "CONNACK: another version of MQTT"
    TURNED_AWAY = "CONNACK: not now"
    OLD_SESSION = "CONNACK: an unwanted old session"
    REFUSED = "only a change at the broker, or of our identity, helps"
    UNEXPLAINED = "the broker closed without a reason, or with one that may concern a packet of ours"
    NOT_NOW = "the broker closed for a quota, or for a reason of its own that it does not tell"
    OTHER = "another reason of the broker, a failure of the socket, or our own end"


_ANSWERS: Final = frozenset({Cause.UNSUPPORTED, Cause.TURNED_AWAY, Cause.OLD_SESSION, Cause.REFUSED})
"""The causes that a CONNACK reports; a failed connect with another cause had no answer."""


class Lifecycle:
    """State of one connection; the cause of an end is recorded at once, the state when the listener is called."""

    def __init__(self) -> None:
        self.state = ConnectionState.CONNECTING
        self.cause: Cause | None = None
        """Cause of the connection's end; None while no end is known."""
        self.detail = ""
        """Description of the cause for people."""

    @property
    def was_accepted(self) -> bool:
        """True once the broker has accepted us."""
        return self.state not in {ConnectionState.CONNECTING, ConnectionState.FAILED}

    @property
    def was_answered(self) -> bool:
        """True once a CONNACK was received."""
        return self.was_accepted or self.cause in _ANSWERS

    @property
    def is_up(self) -> bool:
        """True where the broker accepted us, and no end is known."""
        return self.was_accepted and self.cause is None

    @property
    def is_over(self) -> bool:
        """True in a final state: the listener was called for the end, or caused the end itself."""
        return not MOVES[self.state]

    def move(self, state: ConnectionState) -> None:
        """Change the state; asserts that MOVES allows it."""
        assert state in MOVES[self.state], f"{self.state.name} to {state.name}"
        self.state = state

    def ends(self, cause: Cause, detail: str) -> None:
        """Record the cause of the end; only the first one is kept."""
        if self.cause is None:
            self.cause, self.detail = cause, detail

    def finish(self) -> None:
        """End the connection: LOST where the broker had accepted it, else FAILED."""
        if not self.is_over:
            self.move(ConnectionState.LOST if self.was_accepted else ConnectionState.FAILED)
