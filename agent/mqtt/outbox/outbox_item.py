"""An unacknowledged message with its kind and state."""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final

from agent.mqtt.message import OutgoingMessage

_OVERHEAD_BYTES: Final = 128
"""Overhead of a message beside topic and payload, an upper bound for memory and disk."""


class Kind(IntEnum):
    """Kinds of messages in their order of sending; without space, messages of the last kind are dropped first."""

    EVENT = 0
    SUMMARY = 1
    DETECTION = 2


class State(Enum):
    """State of a message in the outbox."""

    WAITING = "in memory alone"
    QUEUED = "queued for the disk"
    STORED = "on disk alone"
    READ = "on disk, and read to be sent next"
    SENT = "in flight, in memory alone"
    SENT_QUEUED = "in flight, queued for the disk"
    SENT_STORED = "in flight, and on disk"
    DELETING = "acknowledged, and still on disk"
    GONE = "acknowledged or dropped"


class Move(Enum):
    """Event that changes a message's state."""

    WRITE = "it is queued for the disk"
    WRITTEN = "it is on disk"
    FAILED = "it could not be written"
    READ = "it is read to be sent next"
    SEND = "it is sent"
    RETURN = "it is to be sent again"
    DELETE = "it is acknowledged, and must go from the disk"
    END = "nothing is left of it"


MOVES: Final = {
    (State.WAITING, Move.WRITE): State.QUEUED,
    (State.WAITING, Move.SEND): State.SENT,
    (State.WAITING, Move.END): State.GONE,
    (State.QUEUED, Move.WRITTEN): State.STORED,
    (State.QUEUED, Move.FAILED): State.WAITING,
    (State.STORED, Move.READ): State.READ,
    (State.READ, Move.SEND): State.SENT_STORED,
    (State.READ, Move.RETURN): State.STORED,
    (State.SENT, Move.WRITE): State.SENT_QUEUED,
    (State.SENT, Move.RETURN): State.WAITING,
    (State.SENT, Move.END): State.GONE,
    (State.SENT_QUEUED, Move.WRITTEN): State.SENT_STORED,
    (State.SENT_QUEUED, Move.FAILED): State.SENT,
    (State.SENT_QUEUED, Move.RETURN): State.QUEUED,
    (State.SENT_QUEUED, Move.DELETE): State.DELETING,
    (State.SENT_QUEUED, Move.END): State.GONE,
    (State.SENT_STORED, Move.RETURN): State.STORED,
    (State.SENT_STORED, Move.DELETE): State.DELETING,
    (State.DELETING, Move.WRITTEN): State.DELETING,
    (State.DELETING, Move.FAILED): State.DELETING,
    (State.DELETING, Move.END): State.GONE,
}
"""The next state for each state and move; any other move is a bug and raises KeyError."""
IN_FLIGHT: Final = frozenset({State.SENT, State.SENT_QUEUED, State.SENT_STORED})


@dataclass(slots=True)
class OutboxItem:
    """An unacknowledged message; only its `ClassQueue` assigns `state`."""

    number: int
    """Order of all messages; those kept from earlier runs of the agent have numbers below 1."""
    kind: Kind
    message: OutgoingMessage
    kept_s: float
    """Time at which the message was enqueued (CLOCK_BOOTTIME)."""
    state: State = State.WAITING
    sent_s: float = 0.0
    """Time at which the message was put in flight."""
    queued_s: float = 0.0
    """Time at which the message was queued for the disk."""

    @property
    def size_bytes(self) -> int:
        """Size that counts against the outbox's bounds."""
        return size_of(self.message)

    @property
    def is_in_flight(self) -> bool:
        """True while the broker's answer is awaited."""
        return self.state in IN_FLIGHT

    @property
    def is_written(self) -> bool:
        """True where the message is on disk."""
        return self.state in {State.STORED, State.READ, State.SENT_STORED, State.DELETING}


def size_of(message: OutgoingMessage) -> int:
    """Return the size of a message that counts against the outbox's bounds."""
    return message.size_bytes + len(message.correlation or b"") + _OVERHEAD_BYTES
