"""Something that is due at a steady rate, on a loop that comes by when it can."""


class IntervalTimer:
    """Keeps to the beat that it began with, so that lateness does not add up. A long pause is not made up for."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Return whether it is due now, and if so set the next time; the first time is at once."""
        if self._due_s is None:
            self._due_s = now_s
        if now_s < self._due_s:
            return False
        self._due_s = max(self._due_s + self._interval_s, now_s + self._interval_s / 2)
        return True
