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
"""A thread that ran this long starts its back-off anew."""


class RestartedThread(threading.Thread):
    """A daemon thread that runs `work` until it returns, and again, after a back-off, when it raises.

    `threading.excepthook` is told of each crash, SystemExit included: it is what a process watches its threads by.
    """

    def __init__(self, work: Callable[[], None], name: str) -> None:
        super().__init__(name=name, daemon=True)
        self._work: Final = work

    def run(self) -> None:
        """Run on the thread itself; see `threading.Thread`."""
        backoff = Backoff(_FIRST_S, _CAP_S)
        while True:
            began_s = time.monotonic()
            try:
                self._work()
            except BaseException as error:  # noqa: BLE001 - whatever it is, the thread must not end unseen
                with suppress(Exception):  # an error that cannot even be told must not end the thread either
                    threading.excepthook(threading.ExceptHookArgs((type(error), error, error.__traceback__, self)))
            else:
                return
            if time.monotonic() - began_s > _STEADY_S:
                backoff.reset()
            time.sleep(backoff.next_s())
