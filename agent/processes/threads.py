"""Background threads that report a crash and restart after a backoff."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from agent.processes.backoff import Backoff

_FIRST_S: Final = 0.05
_CAP_S: Final = 1.0
_STEADY_S: Final = 30.0
"""A thread that ran this long resets its backoff."""


class RestartedThread(threading.Thread):
    """Daemon thread that runs `work` until it returns, and again after a backoff when it raises.

    Reports each crash, SystemExit included, to `threading.excepthook`, by which a process watches its threads.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Final = work

    def run(self) -> None:
        """Run `work`; called by `threading.Thread.start`."""
        backoff = Backoff(_FIRST_S, _CAP_S)
        while True:
            began_s = time.monotonic()
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the thread must not end unseen
                with suppress(Exception):  # because a failing hook must not end the thread either
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self)))
            else:
                return
            if time.monotonic() - began_s > _STEADY_S:
                backoff.reset()
            time.sleep(backoff.next_s())
