"""Probes: one for each source of device readings, behind one protocol."""

from typing import Protocol

from agent.health.sensors.reading import Reading
from agent.messages.errors import MistakeError


class ProbeAbsentError(MistakeError):
    """The device lacks this source for as long as the agent runs."""


class Probe(Protocol):
    """One source of sensor readings, used by one thread; `read` may block for any time.

    `read` raises ProbeAbsentError where the source does not exist, and any other exception for a temporary failure,
    after which it is retried. `close` is idempotent.
    """

    @property
    def name(self) -> str:
        """The source's name."""
        ...

    def read(self) -> Reading:
        """Return the present readings."""
        ...

    def close(self) -> None:
        """Release the source."""
        ...
