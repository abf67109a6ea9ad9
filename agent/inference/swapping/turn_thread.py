"""Thread that repeats one step until it is stopped; used by load queue, swappers and preloader."""

import threading
from collections.abc import Callable
from typing import Final

from agent.processes.threads import RestartedThread


class TurnThread:
    """Thread that calls `step` repeatedly until it is stopped.

    Threading: a step waits on `turn` for work or for `is_stopping`. An exception of a step is reported as a crash, and
    restarts the thread after a backoff.
    """

    def __init__(self, name: str, turn: threading.Condition, step: Callable[[], None]) -> None:
        self.is_stopping = False
        self._turn: Final = turn
        self._step: Final = step
        self._thread: Final = RestartedThread(self._run, name)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout_s: float | None = None) -> None:
        """Wake the running step, and wait up to `timeout_s` until it has returned."""
        with self._turn:
            self.is_stopping = True
            self._turn.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self.is_stopping:
            self._step()
