"""An unacknowledged message with its class."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from agent.mqtt.message import OutgoingMessage

_OVERHEAD_BYTES: Final = 128
"""Overhead of a message beside topic and payload, an upper bound for memory and disk."""


class Kind(IntEnum):
    """Classes of messages in the order of sending; without space, the last class is dropped first."""

    EVENT = 0
    SUMMARY = 1
    DETECTION = 2


@dataclass(slots=True)
class OutboxItem:
    """An unacknowledged message."""

    number: int
    """Order of all messages; those of earlier boots have numbers below 1."""
    kind: Kind
    message: OutgoingMessage
    kept_s: float
    """Time it was enqueued (CLOCK_BOOTTIME)."""
    sent_s: float | None = None
    """Time it was put in flight; None while it is not, or is parked."""
    handed: bool = False
    """Queued for the disk since `handed_s`."""
    handed_s: float = 0.0
    written: bool = False
    """Present on disk."""

    @property
    def size_bytes(self) -> int:
        """Size that counts against the bounds."""
        return size_of(self.message)


def size_of(message: OutgoingMessage) -> int:
    """Return the size of a message that counts against the outbox's bounds."""
    return message.size_bytes + len(message.correlation or b"") + _OVERHEAD_BYTES
