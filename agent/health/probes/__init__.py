"""Where a device's readings come from: one probe a source, all behind one protocol."""

from typing import Protocol

from agent.health.sensors.reading import Reading
from agent.messages.errors import MistakeError


class ProbeAbsentError(MistakeError):
    """The device has no such source, and will not get one while the agent runs."""


class Probe(Protocol):
    """One source. Used by one thread, which may be held up in `read` for as long as the source likes.

    `read` raises ProbeAbsentError where there is no such source, and anything else where it failed this time: it is
    then asked again later. `close` lets go of everything; closing what is not open does nothing.
    """

    @property
    def name(self) -> str:
        """The source's name."""
        ...

    def read(self) -> Reading:
        """Return what the source says now."""
        ...

    def close(self) -> None:
        """Let go of the source."""
        ...
