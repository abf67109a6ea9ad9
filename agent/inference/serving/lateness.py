"""Measures how late guests make a stream's frames, and says how late the next one may make them."""

import math
from collections import deque
from itertools import islice
from typing import Final, NamedTuple

_NEWEST, _KEPT = 64, 512
"""Frames without a guest that tell how long frames take, and how long the slowest of them."""
_RARELY: Final = 16
"""Such frames between two looks at the slowest, because that sorts all that are kept."""
_FEWEST: Final = 8
"""Frames before which nothing is concluded from them."""
_SLOW, _SLOWEST = 0.1, 0.01
"""Shares of the frames without a guest that are called slow, and slowest."""
_LONGER: Final = 0.1
"""Share by which guests may stretch these."""
_ALLOWED: Final = 0.0075
"""Share of the frames that may be slower than the slowest then: fewer than a hundredth, which some are without."""
_OF_GAP: Final = 0.75
"""Share of the time from a frame's end to the next one by which a guest may make it late, so that it ends before."""
_COST: Final = 0.2
"""Most that guests cost a frame on the average, as a share of what it usually takes."""
_SAVED: Final = 1.0
"""Most time that is saved for guests, in frames."""
_OWED: Final = 7.0
"""Most time that guests owe, in frames: with `_COST` it is paid in 35 frames, as one slow frame is."""
_MOST, _FEWER, _NONE, _LEAST = 0.25, 0.0, -0.5, -1.5
"""Slow frames saved: at most; below which guests end before the offer; below which none begins; at the least."""
_IN_A_ROW: Final = 32
"""Frames after guests before one without a guest is waited for, because the line may have changed."""
_IN_A_ROW_OWING: Final = 4
"""The same while guests owe, because what they owe may be the line's change."""
_UNTIMED: Final = 100
"""Frames without a guest, none timed, after which no timed one is waited for: a canary's share may leave one in 100."""
_OVERLAPPED: Final = 32
"""Frames beside guests that tell what such a time costs."""
_OVERLAP: Final = 0.1
"""Overlap from which on a frame tells that, as a share of its usual time."""
_LEAST_COST: Final = 0.1
_TRIED: Final = 3.0
"""Overlap that tells the same, in frames, however few have had it."""


class _Frame(NamedTuple):
    ended_ns: int
    took_ns: float


class Lateness:
    """Accounts of what guests cost a stream's frames. Threading: its owner's lock.

    Measured is each frame after a guest, against those without, whatever made it slow: a guest that ended late, or the
    work for its client afterwards.

    The slowest: hardly a hundredth of the frames may be slower after guests than the slowest hundredth is without, and
    a tenth. Beyond that guests must first end before the next frame is offered, and then none begins.

    The average: frames may take a fifth longer than usual on the average. While they take more, no guest begins.

    A single guest may make its frame late until that is as slow as the slowest tenth without guests, and a tenth; where
    frames all take the same time, by a tenth. Where cores are left beside a frame, a guest costs it less time than they
    have in common, and may reach further: without an end where no frame that is beside guests alone is too late.

    What a guest costs there is unknown at first, and where none fits a gap it would stay so. So one that may cost a
    frame all its time again is tried while as much is saved as can be.
    """

    def __init__(self) -> None:
        self._alone: Final[deque[_Frame]] = deque(maxlen=_KEPT)
        """Frames before and beside which no guest was, each with the time from its offer to its inference's end."""
        self._overlapped: Final[deque[tuple[float, float]]] = deque(maxlen=_OVERLAPPED)
        """Overlap with a guest in ns, and the frame's time beyond the usual one."""
        self._usual_ns = 0.0
        self._slow_ns = 0.0
        self._slowest_ns = 0.0
        self._saved_ns = 0.0
        self._saved_frames = 0.0
        self._measured = 0
        self._in_a_row = 0
        self._untimed = 0
        """Frames without a guest since the last timed one."""

    @property
    def usual_ns(self) -> float:
        """Median time from the offer of a frame to its inference's end without a guest; 0 while it is unknown."""
        return self._usual_ns

    @property
    def is_paid(self) -> bool:
        """True where a guest may begin."""
        return not self._owes and not self.awaits_frame

    @property
    def awaits_frame(self) -> bool:
        """True while no guest may begin before a frame without one was timed."""
        return self._in_a_row >= (_IN_A_ROW_OWING if self._owes else _IN_A_ROW)

    @property
    def _owes(self) -> bool:
        return self._saved_ns < 0 or self._saved_frames <= _NONE

    def reach_ns(self, period_ns: float, *, saved: bool = False) -> float:
        """Return the time by which a guest may reach beyond the offer of a frame that comes each `period_ns`.

        A frame that is late ends before the next one comes; with `saved`, the guest costs no more than was saved.
        Infinite where a frame that is beside guests all its time is no later than that.
        """
        longest_ns = (1 + _LONGER) * self._slow_ns
        most_ns = min(longest_ns - self._usual_ns, (period_ns - self._usual_ns) * _OF_GAP, _SAVED * self._usual_ns)
        if saved:
            most_ns = min(most_ns, self._saved_ns if self._saved_frames >= _FEWER else 0.0)
        most_ns, cost = max(0.0, most_ns), self._cost()
        if cost * self._usual_ns < (1 - cost) * most_ns:  # because it takes usual time + cost * its own time
            return math.inf
        return max(most_ns / cost, self._usual_ns if self._may_try else 0.0)

    def frame(self, ended_ns: int, took_ns: float, *, is_after_guest: bool, overlap_ns: float) -> None:
        """Record a frame's time from its offer to its inference's end, `overlap_ns` of it beside a guest."""
        self._grant()
        self._untimed = 0
        if not is_after_guest or len(self._alone) < _FEWEST:
            self._alone.append(_Frame(ended_ns, took_ns))
            self._measure()
            return
        self._charge(took_ns)
        if overlap_ns > 0 and overlap_ns >= _OVERLAP * self._usual_ns:
            self._overlapped.append((overlap_ns, took_ns - self._usual_ns))

    def untimed_frame(self, *, is_after_guest: bool) -> None:
        """Record a frame that the line's model did not infer: a candidate's, or one that was torn or failed."""
        self._grant()
        if not is_after_guest:
            self._untimed += 1
        if self._untimed >= _UNTIMED:
            self._in_a_row = 0

    def guest_ran(self, began_ns: int) -> None:
        """Charge the frames that counted as alone since `began_ns`, because the guest beside them overran its gap."""
        beside_ns: list[float] = []
        while self._alone and self._alone[-1].ended_ns > began_ns:
            beside_ns.append(self._alone.pop().took_ns)
        if beside_ns and len(self._alone) >= _FEWEST:
            self._measure(is_anew=True)  # because that was of these, too
        for took_ns in beside_ns:
            self._charge(took_ns)

    def _measure(self, *, is_anew: bool = False) -> None:
        newest_ns = [one.took_ns for one in islice(reversed(self._alone), _NEWEST)]
        self._usual_ns, self._slow_ns = _among(newest_ns, 0.5), _among(newest_ns, _SLOW)
        if is_anew or self._measured % _RARELY == 0 or len(self._alone) < _NEWEST:
            self._slowest_ns = _among([one.took_ns for one in self._alone], _SLOWEST)
        self._measured += 1
        self._in_a_row = 0

    def _grant(self) -> None:
        self._saved_ns = min(self._saved_ns + _COST * self._usual_ns, _SAVED * self._usual_ns)
        self._saved_frames = min(self._saved_frames + _ALLOWED, _MOST)

    def _charge(self, took_ns: float) -> None:
        self._saved_ns = max(self._saved_ns - (took_ns - self._usual_ns), -_OWED * self._usual_ns)
        if took_ns > (1 + _LONGER) * self._slowest_ns:
            self._saved_frames = max(self._saved_frames - 1, _LEAST)
        self._in_a_row += 1

    @property
    def _may_try(self) -> bool:
        """True where a guest may make a frame late by all its time, so that it becomes known what guests cost."""
        is_saved = self._saved_ns >= (_SAVED - _COST) * self._usual_ns and self._saved_frames >= _MOST
        return is_saved and not self._is_cost_known

    @property
    def _is_cost_known(self) -> bool:
        overlap_ns = sum(one for one, _ in self._overlapped)
        return len(self._overlapped) >= _FEWEST or overlap_ns > _TRIED * self._usual_ns

    def _cost(self) -> float:
        """Return the time that a frame loses of each ns beside a guest: 1 where both need the same cores."""
        if not self._is_cost_known:
            return 1.0
        overlap_ns, lost_ns = map(sum, zip(*self._overlapped, strict=True))
        return min(1.0, max(_LEAST_COST, lost_ns / overlap_ns))


def _among(times_ns: list[float], share: float) -> float:
    """Return the time that only `share` of `times_ns` exceed."""
    return sorted(times_ns)[int((1 - share) * (len(times_ns) - 1))]
