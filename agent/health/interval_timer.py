"""Timer for work at a steady rate on a loop with irregular turns."""


class IntervalTimer:
    """Timer on a fixed grid, so that a late turn delays no later one; long pauses are skipped."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._due_s: float | None = None

    def is_due(self, now_s: float) -> bool:
        """Return True if the timer is due, and set its next time; the first call is always due."""
        if self._due_s is None:
            self._due_s = now_s
        if now_s < self._due_s:
            return False
        self._due_s = max(self._due_s + self._interval_s, now_s + self._interval_s / 2)
        return True
