"""Knows when the lines' frames are due, so that a request is inferred only where it ends before the next one."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_NEWEST: Final = 0.125
"""Weight of the newest period in a stream's moving average."""
_PERIODS: Final = 3.0
"""Periods without a frame after which a stream counts as standing."""
_LATE_SHARE, _LATE_MOST_NS = 0.05, 500_000
"""Limit by which a request's inference may reach beyond the next frame's time: a share of the period, and a time."""
_LOOK_NS: Final = 50_000_000
"""Longest sleep between two looks at the streams, because a frame that waits in its slot notifies nobody here."""


@dataclass
class _Stream:
    is_waiting: Callable[[], bool]
    number: int = 0
    offered_ns: int = 0
    period_ns: float = 0.0
    in_flight: int = 0

    def is_expected(self, now_ns: int) -> bool:
        """Return True while frames come; a stream's first two frames tell its period."""
        return bool(self.offered_ns) and now_ns - self.offered_ns < max(self.period_ns, 1e8) * _PERIODS


class Slack:
    """The time that lines leave between their paced frames. Owner: the worker.

    Threading: any thread; one request's inference at a time.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns: Final = clock_ns
        self._changed: Final = threading.Condition()
        self._streams: Final[dict[str, _Stream]] = {}
        self._is_stopping = False

    def add(self, stream: str, is_waiting: Callable[[], bool]) -> None:
        """Heed the frames of `stream`; `is_waiting` says whether one waits in its slot."""
        with self._changed:
            self._streams[stream] = _Stream(is_waiting)

    def began(self, stream: str, number: int, offered_ns: int) -> None:
        """Record that a frame was taken; `number` counts the frames offered before it, `offered_ns` is monotonic."""
        with self._changed:
            one = self._streams.get(stream)
            if one is None:
                return
            if one.offered_ns and number > one.number:
                period_ns = (offered_ns - one.offered_ns) / (number - one.number)
                one.period_ns += (period_ns - one.period_ns) * _NEWEST if one.period_ns else period_ns
            one.number, one.offered_ns = number, offered_ns
            one.in_flight += 1

    def ended(self, stream: str) -> None:
        """Record that a taken frame is answered or given up."""
        with self._changed:
            one = self._streams.get(stream)
            if one is not None and one.in_flight:
                one.in_flight -= 1
                self._changed.notify_all()

    def stop(self) -> None:
        """End every wait; no request begins any more."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def wait(self, needed_ns: float, deadline_ns: int) -> bool:
        """Wait until nothing of the lines is under way, and `needed_ns` are left before a frame is due.

        Returns False at `deadline_ns` (monotonic), and at once where no gap between two frames is ever so long.
        """
        with self._changed:
            while not self._is_stopping:
                now_ns = self._clock_ns()
                left_ns = self._left_ns(now_ns)
                if left_ns is None or needed_ns <= left_ns:
                    return True
                if now_ns >= deadline_ns or needed_ns > self._longest_ns(now_ns):
                    return False
                self._changed.wait(min(deadline_ns - now_ns, _LOOK_NS) / 1e9)
        return False

    def has_room(self, needed_ns: float) -> bool:
        """Return True where some gap between two frames is so long."""
        with self._changed:
            return needed_ns <= self._longest_ns(self._clock_ns())

    def _left_ns(self, now_ns: int) -> float | None:
        """Return the time that a request may take now, 0 while a frame is under way or late; None: any time."""
        expected = [one for one in self._streams.values() if one.is_expected(now_ns)]
        if any(one.in_flight or one.is_waiting() for one in expected):
            return 0.0
        return min((self._until_due_ns(one, now_ns) for one in expected), default=None)

    @staticmethod
    def _until_due_ns(one: _Stream, now_ns: int) -> float:
        late_ns = min(one.period_ns * _LATE_SHARE, _LATE_MOST_NS)
        return max(0.0, one.offered_ns + one.period_ns + late_ns - now_ns)

    def _longest_ns(self, now_ns: int) -> float:
        periods = [one.period_ns for one in self._streams.values() if one.is_expected(now_ns) and one.period_ns]
        return min(periods, default=float("inf")) + _LATE_MOST_NS
