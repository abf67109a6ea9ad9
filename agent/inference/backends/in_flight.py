"""Decides when the next frame of a model is taken: just before the runtime could infer it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Final

_LEAD_NS: Final = 2_000_000
"""Margin for the next frame beyond the usual duration of its preprocessing."""
_LEAD_SHARE: Final = 0.1
"""Further margin, as a share of the usual duration of an inference."""
_NEWEST: Final = 0.125
"""Weight of the newest time in the moving averages."""


class Slot:
    """One frame in flight, from its turn on; its `with` block runs the inference, once."""

    def __init__(self, places: "InFlightLimiter", taken_ns: int) -> None:
        self.taken_ns = taken_ns
        """Time at which the frame was taken (monotonic, ns)."""
        self.began_ns = 0
        """Time from which the runtime could infer the frame (monotonic, ns)."""
        self.ended_ns = 0
        """End of the frame's inference (monotonic, ns)."""
        self.has_turn = True
        """No other frame is taken meanwhile."""
        self._places: Final = places

    def pass_turn(self) -> None:
        """Let the next frame be taken, because this model does not infer this one."""
        self._places.pass_turn(self)

    @property
    def usual_s(self) -> float:
        """Moving average of the duration of the model's inferences."""
        return self._places.usual_s

    def __enter__(self) -> None:
        self._places.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._places.end(self)


class InFlightLimiter:
    """Limiter of one model's frames in flight, over all streams that the model serves.

    `at_once` frames are inferred at the same time, and one more is taken shortly before an inference ends, so that it
    is preprocessed in time and still new (decision 37). So `count` threads in turn are enough for a model.

    Threading: any thread; one at a time has the turn.
    """

    def __init__(self, at_once: int = 1, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self.count: Final = at_once + 1
        self._at_once: Final = at_once
        self._clock_ns: Final = clock_ns
        self._turn: Final = threading.Lock()
        self._ended: Final = threading.Condition()
        self._inferring: Final[list[Slot]] = []
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

    @contextmanager
    def turn(self) -> Iterator[Slot]:
        """Run the block with the only turn at taking a frame; it ends as the frame's inference begins, or here."""
        self._turn.acquire()
        slot = Slot(self, self._clock_ns())
        try:
            yield slot
        finally:
            self._end_turn(slot)

    def wait_due(self, timeout_s: float) -> bool:
        """Wait until it is time to take a frame; False after `timeout_s`. Only for the thread with the turn."""
        deadline_ns = self._clock_ns() + int(timeout_s * 1e9)
        with self._ended:
            while (early_ns := self._early_ns()) > 0:
                left_ns = deadline_ns - self._clock_ns()
                if left_ns <= 0:
                    return False
                self._ended.wait(min(early_ns, left_ns) / 1e9)
        return True

    def begin(self, slot: Slot) -> None:
        """Record that a frame's inference starts, and end its turn."""
        with self._ended:
            slot.began_ns = self._clock_ns()
            self._usual_lead_ns = _usual(self._usual_lead_ns, slot.began_ns - slot.taken_ns)
            self._inferring.append(slot)
        self._end_turn(slot)

    def end(self, slot: Slot) -> None:
        """Record that a frame's inference ended."""
        with self._ended:
            self._inferring.remove(slot)
            slot.ended_ns, slot.began_ns = self._clock_ns(), self._began_ns(slot)
            self._last_ended_ns = slot.ended_ns
            self._usual_run_ns = _usual(self._usual_run_ns, slot.ended_ns - slot.began_ns)
            self._ended.notify_all()

    def pass_turn(self, slot: Slot) -> None:
        """End a frame's turn before its inference."""
        self._end_turn(slot)

    def _end_turn(self, slot: Slot) -> None:
        if slot.has_turn:
            slot.has_turn = False
            self._turn.release()

    def _early_ns(self) -> float:
        """Return the time in ns until the next frame should be taken."""
        if len(self._inferring) < self._at_once:
            return 0.0
        due_ns = min(map(self._began_ns, self._inferring)) + self._usual_run_ns
        return due_ns - self._usual_lead_ns - _LEAD_NS - _LEAD_SHARE * self._usual_run_ns - self._clock_ns()

    def _began_ns(self, slot: Slot) -> int:
        """Return the time from which the runtime could infer a frame; with one at a time, after the previous end."""
        return max(slot.began_ns, self._last_ended_ns) if self._at_once == 1 else slot.began_ns


def _usual(before_ns: float, newest_ns: int) -> float:
    return before_ns + (newest_ns - before_ns) * _NEWEST if before_ns else float(newest_ns)
