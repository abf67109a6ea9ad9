"""Limits a model's frames in flight to those being inferred, and one that is preprocessed just in time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal

_LEAD_NS: Final = 2_000_000
"""Margin for the next frame beyond the usual duration of its preprocessing."""
_LEAD_SHARE: Final = 0.1
"""Further margin, as a share of the usual duration of an inference."""
_NEWEST: Final = 0.125
"""Weight of the newest time in the moving averages."""


class Slot:
    """One frame in flight, from `InFlightLimiter.take` to `give_back`; its `with` block runs the inference, once."""

    def __init__(self, places: "InFlightLimiter", taken_ns: int) -> None:
        self.taken_ns: Final = taken_ns
        self.began_ns = 0
        """Time from which the runtime could infer the frame (monotonic, ns)."""
        self.ended_ns = 0
        """End of the frame's inference (monotonic, ns)."""
        self.state: Literal["drawn", "inferred", "decoded"] = "drawn"
        self._places: Final = places

    @property
    def usual_s(self) -> float:
        """Moving average of the duration of the model's inferences."""
        return self._places.usual_s

    def give_back(self) -> None:
        """Free the slot at any stage of its frame."""
        self._places.give_back(self)

    def __enter__(self) -> None:
        self._places.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._places.end(self)


@dataclass(eq=False)
class _Waiter:
    who: str


class InFlightLimiter:
    """Limiter of one model's frames in flight, over all streams that the model serves.

    There are `at_once` slots for frames that are inferred at the same time, and one for the next frame. The last slot
    is granted shortly before an inference ends, so that its frame is preprocessed in time and still new (decision 37).

    Order: the waiting stream that was served longest ago comes first. Threading: any thread.
    """

    def __init__(self, at_once: int = 1, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.count: Final = at_once + 1
        self._at_once: Final = at_once
        self._clock_ns: Final = clock_ns
        self._turn: Final = threading.Condition()
        self._waiting: Final[list[_Waiter]] = []
        self._given = 0
        self._last_given: Final[dict[str, int]] = {}
        self._taken: Final[list[Slot]] = []
        self._last_ended_ns = 0
        self._usual_run_ns = 0.0
        self._usual_lead_ns = 0.0
        self._expected_ns = 0.0

    @property
    def usual_s(self) -> float:
        """Moving average of the duration of an inference; before the first one, the duration that `expect` set."""
        return (self._usual_run_ns or self._expected_ns) / 1e9

    def expect(self, run_ns: int) -> None:
        """Set the duration that is assumed until the first inference has ended."""
        self._expected_ns = run_ns

    def take(self, timeout_s: float, is_over: Callable[[], bool] = lambda: False, who: str = "") -> Slot | None:
        """Wait for a slot for stream `who`; None after `timeout_s`, or once `is_over` returns True (see `wake`)."""
        deadline_ns = self._clock_ns() + int(timeout_s * 1e9)
        me = _Waiter(who)
        with self._turn:
            self._waiting.append(me)
            try:
                return self._wait(me, deadline_ns, is_over)
            finally:
                self._waiting.remove(me)
                self._turn.notify_all()

    def wake(self) -> None:
        """Wake all threads in `take`, which then call `is_over` again."""
        with self._turn:
            self._turn.notify_all()

    def begin(self, place: Slot) -> None:
        """Record that a frame's inference starts."""
        with self._turn:
            place.began_ns, place.state = self._clock_ns(), "inferred"
            self._usual_lead_ns = _usual(self._usual_lead_ns, place.began_ns - place.taken_ns)
            self._turn.notify_all()

    def end(self, place: Slot) -> None:
        """Record that a frame's inference ended."""
        with self._turn:
            place.ended_ns, place.state = self._clock_ns(), "decoded"
            place.began_ns = self._began_ns(place)
            self._last_ended_ns = place.ended_ns
            self._usual_run_ns = _usual(self._usual_run_ns, place.ended_ns - place.began_ns)
            self._turn.notify_all()

    def give_back(self, place: Slot) -> None:
        """Free a slot."""
        with self._turn:
            self._taken.remove(place)
            self._turn.notify_all()

    def _wait(self, me: _Waiter, deadline_ns: int, is_over: Callable[[], bool]) -> Slot | None:
        while not is_over():
            now_ns = self._clock_ns()
            left_ns = float(deadline_ns - now_ns)
            if self._first() is me and (early_ns := self._early_ns(now_ns)) is not None:
                if early_ns <= 0:
                    return self._give(me, now_ns)
                left_ns = min(left_ns, early_ns)
            if now_ns >= deadline_ns:
                return None
            self._turn.wait(left_ns / 1e9)
        return None

    def _first(self) -> _Waiter:
        return min(self._waiting, key=lambda one: self._last_given.get(one.who, -1))

    def _give(self, me: _Waiter, now_ns: int) -> Slot:
        self._given += 1
        self._last_given[me.who] = self._given
        place = Slot(self, now_ns)
        self._taken.append(place)
        return place

    def _early_ns(self, now_ns: int) -> float | None:
        """Return the time in ns until one more slot may be granted; None while that depends on another frame."""
        ahead = [place for place in self._taken if place.state != "decoded"]
        if len(self._taken) >= self.count:
            return None
        if len(ahead) < self._at_once:
            return 0.0
        if any(place.state == "drawn" for place in ahead):
            return None
        due_ns = min(self._began_ns(place) for place in ahead) + self._usual_run_ns
        return due_ns - self._usual_lead_ns - _LEAD_NS - _LEAD_SHARE * self._usual_run_ns - now_ns

    def _began_ns(self, place: Slot) -> int:
        """Return the time from which the runtime could infer a frame; with one at a time, after the previous end."""
        return max(place.began_ns, self._last_ended_ns) if self._at_once == 1 else place.began_ns


def _usual(before_ns: float, newest_ns: int) -> float:
    return before_ns + (newest_ns - before_ns) * _NEWEST if before_ns else float(newest_ns)
