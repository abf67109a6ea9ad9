"""Runs the steps of a thread that waits for its turn: the one mechanism of load queue, swappers and preloader."""

import threading
from collections.abc import Callable
from typing import Final

from agent.processes.threads import RestartedThread


class TurnThread:
    """Calls `step` again and again until it is stopped.

    Threading: a step waits on `turn` for work or for `is_stopping`. An error that a step does not handle restarts the
    thread after a backoff, and is told as a crash.
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
        """Wake the step, and wait until it has returned, at most for `timeout_s`."""
        with self._turn:
            self.is_stopping = True
            self._turn.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self.is_stopping:
            self._step()
