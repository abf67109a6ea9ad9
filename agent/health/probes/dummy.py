"""Dummy probe with settable readings, for tests and plants without sensors."""

from agent.health.sensors.reading import Reading


class DummyProbe:
    """Probe that returns `reading`, or raises `error` where it is set."""

    def __init__(self, reading: Reading | None = None) -> None:
        self.name = "dummy"
        self.reading = reading or Reading("dummy")
        self.error: Exception | None = None
        self.closed = 0

    def read(self) -> Reading:
        """Return the reading, or raise the error."""
        if self.error is not None:
            raise self.error
        return self.reading

    def close(self) -> None:
        """Count the call."""
        self.closed += 1
