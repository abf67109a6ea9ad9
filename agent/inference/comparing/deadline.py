"""Calls with a deadline: on threads of their own, so that the caller goes on where one hangs."""

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, Generic, TypeVar

from agent.processes.threads import RestartedThread

_Result = TypeVar("_Result")


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
