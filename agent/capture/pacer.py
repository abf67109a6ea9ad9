"""Schedule of due times at a steady rate, without drift; pure, with the time as an argument."""

from typing import Final

EARLY: Final = 0.25
"""Share of the period that a frame may be early, because a camera at the same rate jitters about each due time."""


class Pacer:
    """Grid of due times, `1 / fps` seconds apart; with `fps` 0 every frame is due. Times are monotonic seconds.

    A frame less than a period late leaves the grid as it is, which keeps the mean rate. After a longer gap the grid
    restarts, so that no burst follows.
    """

    def __init__(self, fps: float) -> None:
        self._period_s: Final = 1 / fps if fps > 0 else 0.0
        self._due_s: float | None = None

    def left_s(self, now_s: float) -> float:
        """Return the seconds until the next frame is due; 0 where one is due now."""
        return 0.0 if self._due_s is None else max(0.0, self._due_s - now_s)

    def is_due(self, now_s: float) -> bool:
        """Return True where a frame that arrives now should be offered."""
        return self.left_s(now_s) <= EARLY * self._period_s

    def step(self, now_s: float) -> None:
        """Advance to the next due time, after a frame was offered."""
        due_s = now_s if self._due_s is None else self._due_s
        self._due_s = max(due_s + self._period_s, now_s)
