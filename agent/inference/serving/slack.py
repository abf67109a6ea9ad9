"""Knows when the lines' frames are due, so that what is no frame of theirs is inferred only where it ends before.

Requests and the second inferences of comparisons are its guests. A stream without a pace (`fps = 0`) takes all the time
there is; beside such streams alone guests get a share of it.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

_NEWEST: Final = 0.125
"""Weight of the newest period in a stream's moving average."""
_PERIODS: Final = 3.0
"""Periods without a frame after which a stream counts as standing."""
_LATE_OF_PERIOD, _LATE_OF_FRAME = 0.05, 0.1
"""Limits by which a guest may reach beyond the next frame's time: shares of the period, and of a frame's duration."""
_SHARE: Final = 0.1
"""Share of the time that guests get beside streams without a pace."""
_OVERRUN_NS: Final = 100_000_000
"""A gap belongs to its guest until that has ended, but no longer than for this and twice what it needs: it may hang."""
_LOOK_NS: Final = 50_000_000
"""Longest sleep between two looks at the streams, because a frame that waits in its slot notifies nobody here."""


class Gap(Enum):
    """Result of a wait for a gap between the lines' frames."""

    FOUND = auto()
    TOO_SHORT = auto()
    """Nothing was under way at times, but never for so long."""
    NONE = auto()


@dataclass
class _Stream:
    is_waiting: Callable[[], bool]
    is_paced: bool
    number: int = 0
    offered_ns: int = 0
    period_ns: float = 0.0
    least_ns: float = 0.0
    """Short time from the offer of a frame to its inference's end: falls at once, rises slowly; 0: unknown."""
    ended_ns: int = 0
    in_flight: int = 0

    @property
    def due_ns(self) -> float:
        """Time until which a guest may reach."""
        return self.offered_ns + self.period_ns + self.late_ns

    @property
    def late_ns(self) -> float:
        return min(self.period_ns * _LATE_OF_PERIOD, self.least_ns * _LATE_OF_FRAME)

    @property
    def longest_ns(self) -> float:
        """Longest gap between two frames; infinite before there were two."""
        return self.period_ns + self.late_ns - self.least_ns if self.period_ns else math.inf

    def ended(self, now_ns: int) -> None:
        if self.in_flight == 1:  # because beside another frame it is not the one offered last
            took_ns = now_ns - self.offered_ns
            is_longer = self.least_ns and took_ns > self.least_ns
            self.least_ns += (took_ns - self.least_ns) * (_NEWEST if is_longer else 1.0)
        self.ended_ns = now_ns
        self.in_flight -= 1

    def is_expected(self, now_ns: int) -> bool:
        """Return True while frames come; a stream's first two frames tell its period."""
        return bool(self.offered_ns) and now_ns - self.offered_ns < max(self.period_ns, 1e8) * _PERIODS


class Slack:
    """The time that lines leave between their paced frames. Owner: the worker.

    Threading: any thread. One guest at a time has a gap: from FOUND until it calls `spent`.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock_ns: Final = clock_ns
        self._changed: Final = threading.Condition()
        self._streams: Final[dict[str, _Stream]] = {}
        self._shared_from_ns = 0.0
        """Time from which on a guest may begin beside streams without a pace."""
        self._guest_until_ns = 0.0
        """Time until which a guest has the gap at most; 0: none has."""
        self._is_stopping = False

    def add(self, stream: str, is_waiting: Callable[[], bool], *, is_paced: bool = True) -> None:
        """Heed the frames of `stream`; `is_waiting` says whether one waits in its slot."""
        with self._changed:
            self._streams[stream] = _Stream(is_waiting, is_paced)

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
        """Record that a taken frame's inference has ended or was given up."""
        with self._changed:
            one = self._streams.get(stream)
            if one is not None and one.in_flight:
                one.ended(self.clock_ns())
                self._changed.notify_all()

    def spent(self, took_ns: float) -> None:
        """Record that a guest's inference took so long, and has just ended; 0 where it did not begin after all."""
        with self._changed:
            if took_ns:
                self._shared_from_ns = self.clock_ns() + took_ns * (1 / _SHARE - 1)
            self._guest_until_ns = 0.0
            self._changed.notify_all()

    def stop(self) -> None:
        """End every wait; no guest begins any more."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def wait(self, needed_ns: float, deadline_ns: int) -> Gap:
        """Wait until nothing of lines and guests is under way, and `needed_ns` are left before a frame is due.

        The caller of a wait that returns FOUND calls `spent`. Returns another result at `deadline_ns` (monotonic).
        """
        last = Gap.NONE
        with self._changed:
            while not self._is_stopping:
                now_ns = self.clock_ns()
                found = self._look(needed_ns, now_ns)
                if found is Gap.FOUND:
                    self._guest_until_ns = now_ns + 2 * needed_ns + _OVERRUN_NS
                    return found
                last = last if found is Gap.NONE else found
                if now_ns >= deadline_ns:
                    return last
                self._changed.wait(min(deadline_ns - now_ns, _LOOK_NS) / 1e9)
        return Gap.NONE

    def has_room(self, needed_ns: float) -> bool:
        """Return True where some gap between two frames is so long."""
        with self._changed:
            now_ns = self.clock_ns()
            paced = [one for one in self._streams.values() if one.is_paced and one.is_expected(now_ns)]
            return all(needed_ns <= one.longest_ns for one in paced)

    def _look(self, needed_ns: float, now_ns: int) -> Gap:
        if now_ns < self._guest_until_ns:
            return Gap.NONE
        expected = [one for one in self._streams.values() if one.is_expected(now_ns)]
        paced = [one for one in expected if one.is_paced]
        found = _gap(expected, needed_ns, now_ns)
        if found is Gap.FOUND or len(paced) == len(expected):
            return found
        return _gap(paced, needed_ns, now_ns) if now_ns >= self._shared_from_ns else Gap.NONE


def _gap(streams: list[_Stream], needed_ns: float, now_ns: int) -> Gap:
    """Return FOUND where no frame is under way or late, and `needed_ns` are left before the next one is due."""
    if any(one.in_flight or one.is_waiting() for one in streams):
        return Gap.NONE
    due_ns = min((one.due_ns for one in streams), default=math.inf)
    if needed_ns <= max(0.0, due_ns - now_ns):
        return Gap.FOUND
    began_ns = max(one.ended_ns for one in streams)
    return Gap.TOO_SHORT if began_ns < due_ns < began_ns + needed_ns else Gap.NONE
