"""Calls with a deadline: on threads of their own, so that the caller goes on where one hangs."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from agent.processes.threads import RestartedThread

_Result = TypeVar("_Result")
_LEAST_S: Final = 0.05
USUAL_TIMES: Final = 4.0
"""Multiple of its usual duration after which a candidate's answer is too late."""
_PATIENT_PERIODS: Final = 0.75
"""Frame periods for which it may take in any case, because no frame is lost by that."""
_PERIODS: Final = 1.5
"""Frame periods after which it is too late in any case, because the next frames would be lost."""
_LEAST_USUAL_TIMES: Final = 2.0
_LEAST_OF_MANY: Final = 3.0
"""The same where it waits for the frame of another stream before it."""
_SPARE_PERIODS: Final = 0.1
"""Frame periods that are left over where further streams wait for the same threads."""


def deadline_s(usual_s: float, period_s: float, waiting: int) -> float:
    """Return the time after which a candidate's answer to a frame is too late.

    `usual_s` is the usual duration of its inference, `period_s` the shortest time between two frames of a stream, 0.0
    where it is unknown. `waiting` streams have no thread until the candidate's frames are answered; each frame of
    theirs is to be taken before the next one replaces it, also where all come at the same moment.
    """
    patient_s = max(_LEAST_S, USUAL_TIMES * usual_s, _PATIENT_PERIODS * period_s)
    if not period_s:
        return patient_s
    if waiting > 0:
        spare_s = (1 - _SPARE_PERIODS) * period_s - waiting * usual_s
        return max(min(patient_s, spare_s), _LEAST_OF_MANY * usual_s)
    return min(patient_s, max(_PERIODS * period_s, _LEAST_USUAL_TIMES * usual_s))


class _Task(Generic[_Result]):
    def __init__(self, work: Callable[[], _Result]) -> None:
        self.work: Final = work
        self.begun_s = time.monotonic()
        self.done: Final = threading.Event()
        self.result: _Result | None = None
        self.error: Exception | None = None

    def run(self) -> None:
        """Run the work, and keep its result or error."""
        try:
            self.result = self.work()
        except Exception as error:  # noqa: BLE001 - the caller's, who may be gone
            self.error = error


class DeadlineCaller(Generic[_Result]):
    """A few daemon threads that run calls, and are left behind where one never returns. Threading: any thread."""

    def __init__(self, name: str, threads: int) -> None:
        self._tasks: Final[SimpleQueue[_Task[_Result] | None]] = SimpleQueue()  # bounded by the callers, which wait
        self._late: Final[set[_Task[_Result]]] = set()
        self._lock: Final = threading.Lock()
        self._threads: Final = [RestartedThread(self._run, f"{name} {number}") for number in range(threads)]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Have each thread end after its call; returns at once."""
        for _ in self._threads:
            self._tasks.put(None)

    def call(self, work: Callable[[], _Result], deadline_s: float) -> _Result | None:
        """Return the result of `work`; None where it takes longer than `deadline_s`, and goes on. Raises its error."""
        task = _Task(work)
        self._tasks.put(task)
        if not task.done.wait(deadline_s):
            with self._lock:
                if not task.done.is_set():
                    self._late.add(task)
                    return None
        if task.error is not None:
            raise task.error
        return task.result

    def late_s(self) -> float:
        """Return for how long the oldest call that missed its deadline has run; 0.0 without one."""
        with self._lock:
            oldest_s = min((task.begun_s for task in self._late), default=None)
        return time.monotonic() - oldest_s if oldest_s is not None else 0.0

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            task.run()
            with self._lock:
                task.done.set()
                self._late.discard(task)
