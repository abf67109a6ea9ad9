"""When the next frame is due: a schedule that does not drift. Pure: the time is an argument."""

from typing import Final

# Of the period. A camera that runs at just our rate jitters about each due time; without this, a frame that comes a
# millisecond early would be left out, and the stream would miss one whole frame instead.
EARLY: Final = 0.25


class Pacer:
    """A grid of due times, `1 / fps` apart; `fps` 0: always due. All times are seconds of one monotonic clock.

    A frame that is late by less than a period leaves the grid as it is, so the mean rate is kept; after a longer gap
    the grid starts anew, so that what was missed is not made up for by a burst.
    """

    def __init__(self, fps: float) -> None:
        self._period_s: Final = 1 / fps if fps > 0 else 0.0
        self._due_s: float | None = None

    def left_s(self, now_s: float) -> float:
        """Return how long until the next frame is due, 0 when it is."""
        return 0.0 if self._due_s is None else max(0.0, self._due_s - now_s)

    def is_due(self, now_s: float) -> bool:
        """Tell whether a frame that arrived now is one to offer."""
        return self.left_s(now_s) <= EARLY * self._period_s

    def step(self, now_s: float) -> None:
        """Go to the next due time: a frame was offered now."""
        due_s = now_s if self._due_s is None else self._due_s
        self._due_s = max(due_s + self._period_s, now_s)
