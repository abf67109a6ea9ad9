"""Knows when the lines' frames are due, so that what is no frame of theirs is inferred only where it ends before.

Requests and the second inferences of comparisons are its guests. A stream without a pace (`fps = 0`) takes all the time
there is; beside such streams alone guests get a share of it.
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from agent.inference.serving.lateness import Lateness

_NEWEST: Final = 0.125
"""Weight of the newest period in a stream's moving average."""
_PERIODS: Final = 3.0
"""Periods without a frame after which a stream counts as standing."""
_SHARE: Final = 0.1
"""Share of the time that guests get beside streams without a pace."""
_OVERRUN_NS: Final = 100_000_000
"""A gap belongs to its guest until that has ended, but no longer than for this and twice what it needs: it may hang."""
_APART_NS: Final = 20_000_000
"""Time between a guest's end and a frame's offer after which the one costs the other nothing: its client is done."""
_LOOK_NS: Final = 50_000_000
"""Longest sleep between two looks at the streams, because a frame that waits in its slot notifies nobody here."""


class Gap(Enum):
    """Result of a wait for a gap between the lines' frames."""

    FOUND = auto()
    TOO_SHORT = auto()
    """Nothing was under way at times, but never for so long."""
    UNPAID = auto()
    """One was long enough, but guests have cost the frames before it too much."""
    NONE = auto()


_TELLING: Final = (Gap.FOUND, Gap.UNPAID, Gap.TOO_SHORT, Gap.NONE)
"""Order in which results of looks count."""


@dataclass
class _Stream:
    is_waiting: Callable[[], bool]
    is_paced: bool
    number: int = 0
    offered_ns: int = 0
    period_ns: float = 0.0
    ended_ns: int = 0
    in_flight: dict[int, tuple[int, Lateness]] = field(default_factory=dict)
    """Times of offer by number, each with the account of the frame's model."""
    model: str = ""
    lateness: Lateness = field(default_factory=Lateness)
    has_guest: bool = False
    """A guest has begun, run or ended since the last frame's end."""
    guest_ended_ns: int | None = None
    """End of the newest guest's network; None while it runs."""
    guest_began_ns: int = 0
    before_guest: tuple[bool, int | None, int] = (False, None, 0)
    """Values of these three before the newest guest."""

    @property
    def due_ns(self) -> float:
        """Time at which the next frame is offered."""
        return self.offered_ns + self.period_ns

    @property
    def reach_ns(self) -> float:
        """Time by which a guest may at best reach beyond that."""
        return self.lateness.reach_ns(self.period_ns)

    @property
    def longest_ns(self) -> float:
        """Longest time for a guest between two frames; infinite before there were two."""
        return self.period_ns + self.reach_ns - self.lateness.usual_ns if self.period_ns else math.inf

    @property
    def is_hindered(self) -> bool:
        """True while a frame is under way beside which no guest may begin: it would lose time, or is awaited alone."""
        is_safe = self.is_paced and self.lateness.reach_ns(self.period_ns, saved=True) == math.inf
        return bool(self.in_flight) and (not is_safe or self.lateness.awaits_frame)

    def ended(self, number: int, now_ns: int, *, is_inferred: bool, is_guest_left: bool) -> None:
        """Account for a frame; where `is_guest_left`, the newest guest is beside the next one, too."""
        if number not in self.in_flight:
            return
        offered_ns, lateness = self.in_flight.pop(number)
        self.ended_ns = now_ns
        is_apart = self.guest_ended_ns is not None and self.guest_ended_ns + _APART_NS <= offered_ns
        is_after_guest = self.has_guest and not is_apart
        if is_inferred:
            # A stall of seconds would else keep guests out for a minute.
            took_ns = max(0, min(now_ns - offered_ns, self.period_ns or math.inf))
            until_ns = now_ns if self.guest_ended_ns is None else min(now_ns, self.guest_ended_ns)
            overlap_ns = min(took_ns, max(0, until_ns - max(offered_ns, self.guest_began_ns)))
            lateness.frame(now_ns, took_ns, is_after_guest=is_after_guest, overlap_ns=overlap_ns)
        else:
            lateness.untimed_frame(is_after_guest=is_after_guest)
        self.has_guest, self.before_guest = is_guest_left, (False, None, 0)

    def is_expected(self, now_ns: int) -> bool:
        """Return True while frames come; a stream's first two frames tell its period."""
        return bool(self.offered_ns) and now_ns - self.offered_ns < max(self.period_ns, 1e8) * _PERIODS


class Slack:
    """The time that lines leave between their paced frames. Owner: the worker.

    Threading: any thread. One guest at a time has a gap: the thread that got FOUND, until it calls `spent` or `unused`.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.clock_ns: Final = clock_ns
        self._changed: Final = threading.Condition()
        self._streams: Final[dict[str, _Stream]] = {}
        self._shared_from_ns = 0.0
        """Time from which on a guest may begin beside streams without a pace."""
        self._guest_until_ns = 0.0
        """Time until which a guest has the gap at most; 0: none has."""
        self._guest = 0
        """Thread of the guest that found a gap last."""
        self._is_stopping = False

    def add(self, stream: str, is_waiting: Callable[[], bool], *, is_paced: bool = True) -> None:
        """Heed the frames of `stream`; `is_waiting` says whether one waits in its slot."""
        with self._changed:
            self._streams[stream] = _Stream(is_waiting, is_paced)

    def began(self, stream: str, number: int, offered_ns: int, model: str = "") -> None:
        """Record that a frame was taken for `model`.

        `number` counts the frames offered before it, `offered_ns` is monotonic; the camera's process writes both.
        """
        with self._changed:
            one = self._streams.get(stream)
            if one is None:
                return
            if one.offered_ns and number > one.number:
                period_ns = max(0, offered_ns - one.offered_ns) / (number - one.number)
                one.period_ns += (period_ns - one.period_ns) * _NEWEST if one.period_ns else period_ns
            if model != one.model:
                one.model, one.lateness = model, Lateness()
            one.number, one.offered_ns = number, offered_ns
            one.in_flight[number] = offered_ns, one.lateness

    def ended(self, stream: str, number: int, *, is_inferred: bool = True) -> None:
        """Record that a taken frame's inference has ended, or was given up, whose time tells nothing."""
        with self._changed:
            one = self._streams.get(stream)
            if one is not None:
                now_ns = self.clock_ns()
                one.ended(number, now_ns, is_inferred=is_inferred, is_guest_left=now_ns < self._guest_until_ns)
                self._changed.notify_all()

    def spent(self, began_ns: int, network_ended_ns: int = 0) -> None:
        """Record that a guest has just ended, which began at `began_ns`; its network may have ended before."""
        now_ns = self.clock_ns()
        with self._changed:
            self._shared_from_ns = now_ns + (now_ns - began_ns) * (1 / _SHARE - 1)
            for one in self._streams.values():
                one.lateness.guest_ran(began_ns)
            if self._is_guest():
                self._note_guest(network_ended_ns or now_ns)
                self._guest_until_ns = 0.0
                self._changed.notify_all()

    def unused(self) -> None:
        """Give back a gap in which no guest began after all."""
        with self._changed:
            if self._is_guest():
                for one in self._streams.values():
                    one.has_guest, one.guest_ended_ns, one.guest_began_ns = one.before_guest
                self._guest_until_ns = 0.0
                self._changed.notify_all()

    @property
    def is_stopped(self) -> bool:
        """Return True once no guest begins any more."""
        return self._is_stopping

    def stop(self) -> None:
        """End every wait; no guest begins any more."""
        with self._changed:
            self._is_stopping = True
            self._changed.notify_all()

    def wait(self, needed_ns: float, deadline_ns: int, *, may_delay: bool = False) -> Gap:
        """Wait until nothing of lines and guests is under way, and `needed_ns` are left before a frame is due.

        Beside a frame that loses hardly any time to guests one may begin.

        With `may_delay` it need not end before that, except while a frame without a guest is awaited. The caller of a
        wait that returns FOUND calls `spent` or `unused` on the same thread. Returns another result at `deadline_ns`
        (monotonic).
        """
        last = Gap.NONE
        with self._changed:
            while not self._is_stopping:
                now_ns = self.clock_ns()
                found = self._look(needed_ns, now_ns, may_delay=may_delay)
                if found is Gap.FOUND:
                    self._guest, self._guest_until_ns = threading.get_ident(), now_ns + 2 * needed_ns + _OVERRUN_NS
                    for one in self._streams.values():
                        one.before_guest = one.has_guest, one.guest_ended_ns, one.guest_began_ns
                        one.guest_began_ns = now_ns
                    self._note_guest(None)
                    return found
                last = min(last, found, key=_TELLING.index)
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

    def _is_guest(self) -> bool:
        """Return False for a caller that has overrun its gap, which is another guest's by now."""
        return self._guest == threading.get_ident()

    def _note_guest(self, ended_ns: int | None) -> None:
        for one in self._streams.values():
            one.has_guest, one.guest_ended_ns = True, ended_ns

    def _look(self, needed_ns: float, now_ns: int, *, may_delay: bool) -> Gap:
        if now_ns < self._guest_until_ns:
            return Gap.NONE
        expected = [one for one in self._streams.values() if one.is_expected(now_ns)]
        paced = [one for one in expected if one.is_paced]
        found = _gap(expected, needed_ns, now_ns, may_delay=may_delay)
        if found is Gap.FOUND or len(paced) == len(expected):
            return found
        is_time = now_ns >= self._shared_from_ns
        return _gap(paced, needed_ns, now_ns, may_delay=may_delay) if is_time else Gap.NONE


def _gap(streams: list[_Stream], needed_ns: float, now_ns: int, *, may_delay: bool) -> Gap:
    """Return FOUND where no frame is late or hindered, and `needed_ns` are left before the next one is due."""
    if any(one.is_hindered or one.is_waiting() for one in streams):
        return Gap.NONE
    if needed_ns + _APART_NS <= min((one.due_ns for one in streams), default=math.inf) - now_ns:
        return Gap.FOUND  # whatever guests have cost, because this one costs nothing
    paced = [one.lateness for one in streams if one.is_paced]
    is_paid = all(one.is_paid for one in paced)
    # Beside a comparison each frame of the line's own model may follow a guest, and requests would starve.
    may_delay = may_delay and not any(one.awaits_frame for one in paced)
    until_ns = min((one.due_ns + one.lateness.reach_ns(one.period_ns, saved=True) for one in streams), default=math.inf)
    if may_delay or (is_paid and needed_ns <= max(0.0, until_ns - now_ns)):
        return Gap.FOUND
    until_ns = min(one.due_ns + one.reach_ns for one in streams)
    if needed_ns <= until_ns - now_ns:
        return Gap.UNPAID
    began_ns = max(one.ended_ns for one in streams)
    return Gap.TOO_SHORT if began_ns < until_ns < began_ns + needed_ns else Gap.NONE
