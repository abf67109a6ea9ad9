"""Reads the monotonic clock, the wall clock, and whether the wall clock is synchronised."""

import time
from collections.abc import Callable
from typing import Final

from agent.control.state import Now
from agent.health.clock_sync import is_synchronised

_LOOK_INTERVAL_S: Final = 1.0
"""Interval of looks at the synchronisation, because each takes 0.1 ms, too much for each message."""


class Clock:
    """Reader of the monotonic and the wall clock as one `Now`, for the loop's thread."""

    def __init__(
        self, ask: Callable[[], bool] = is_synchronised, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask: Final = ask
        self._monotonic: Final = monotonic
        self._synced = False
        self._look_due_s: float | None = None

    def now(self) -> Now:
        """Return the present moment on both clocks."""
        now_s = self._monotonic()
        if self._look_due_s is None or now_s >= self._look_due_s:
            self._look_due_s = now_s + _LOOK_INTERVAL_S
            self._synced = self._ask()
        return Now(now_s, time.time(), self._synced)
