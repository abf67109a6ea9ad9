"""One message that the broker has not acknowledged, and which class it belongs to."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from agent.mqtt.message import OutgoingMessage

_OVERHEAD_BYTES: Final = 128
"""What a message takes beside topic and payload, in memory or on disk; more than both measured."""


class Kind(IntEnum):
    """Classes of messages, in the order in which they are sent; where there is no space, the last ones go first."""

    EVENT = 0
    SUMMARY = 1
    DETECTION = 2


@dataclass(slots=True)
class OutboxItem:
    """`number` orders all messages of a boot; those of older boots have numbers below 1.

    `kept_s` is when it came, on CLOCK_BOOTTIME. `handed`: the keeper has it to write, since `handed_s`. `written`: it
    is on disk.
    """

    number: int
    kind: Kind
    message: OutgoingMessage
    kept_s: float
    handed: bool = False
    handed_s: float = 0.0
    written: bool = False

    @property
    def size_bytes(self) -> int:
        """What it counts for."""
        return size_of(self.message)


def size_of(message: OutgoingMessage) -> int:
    """Return what a message counts for in the outbox."""
    return message.size_bytes + len(message.correlation or b"") + _OVERHEAD_BYTES
