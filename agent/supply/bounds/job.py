"""One job's bounds and progress: its time limit, its hours, its rate, and what is told of it."""

import time
from collections.abc import Callable
from typing import Final, Literal

from agent.messages.short_lived.supply import FetchProgress
from agent.supply.bounds.token_bucket import TokenBucket
from agent.supply.bounds.window import Window
from agent.supply.errors import SourceError

_TELL_S: Final = 0.5
_RATE_OVER_S: Final = 3.0
_PAUSE_S: Final = 1.0


class Job:
    """The running job; for one thread, which all of its waiting happens on."""

    def __init__(  # noqa: PLR0913 - each is one bound of a job
        self,
        name: str,
        max_s: float,
        tell: Callable[[FetchProgress], None],
        *,
        window: Window,
        bucket: TokenBucket,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name: Final = name
        self._tell: Final = tell
        self._window: Final = window
        self._bucket: Final = bucket
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._max_s: Final = max_s
        self._deadline_s: Final = clock() + max_s
        self._state: Literal["downloading", "verifying"] = "downloading"
        self._bytes = 0
        self._total_bytes = 0
        self._told_s = 0.0
        self._since_s, self._since_bytes, self._kbps = clock(), 0, 0.0

    def begin(self, state: Literal["downloading", "verifying"]) -> None:
        """Enter a state, and tell it. Raises SourceError where the job's time is over."""
        self._require_time()
        self._state = state
        self._report()

    def open(self) -> None:
        """Wait until downloads may run. Raises SourceError ("timeout") where the job's time ends before."""
        while (wait_s := self._window.opens_in_s()) > 0:
            self.pause(min(wait_s, _PAUSE_S))

    def expect(self, size_bytes: int) -> None:
        """Count a file of this size to the job's total."""
        self._total_bytes += size_bytes

    def resume(self, offset: int) -> None:
        """Count bytes that were there before; negative ones are begun again."""
        self._bytes += offset
        self._since_bytes += offset

    def receive(self, amount_bytes: int) -> None:
        """Count bytes received; sleeps where the rate or the hours say so. Raises SourceError ("timeout")."""
        self._bytes += amount_bytes
        self._bucket.take(amount_bytes)
        self._require_time()
        self.open()
        if self._clock() - self._told_s >= _TELL_S:
            self._report()

    def pause(self, seconds: float) -> None:
        """Sleep, at most to the end of the job's time. Raises SourceError ("timeout") at that."""
        until_s = self._clock() + seconds
        while (now_s := self._clock()) < until_s:
            self._require_time()
            self._sleep(min(until_s - now_s, _PAUSE_S, max(self._deadline_s - now_s, 0.001)))
            if self._clock() - self._told_s >= _TELL_S:
                self._report()

    def _require_time(self) -> None:
        if self._clock() >= self._deadline_s:
            raise SourceError("timeout", f"not done within {self._max_s:.0f} s; what came is kept, and gone on with")

    def _report(self) -> None:
        now_s = self._clock()
        elapsed_s = now_s - self._since_s
        kbps = self._kbps
        if elapsed_s >= _RATE_OVER_S or (not kbps and elapsed_s > 0):
            kbps = max((self._bytes - self._since_bytes) * 8 / 1000 / elapsed_s, 0.0)
        if elapsed_s >= _RATE_OVER_S:
            self._kbps, self._since_s, self._since_bytes = kbps, now_s, self._bytes
        self._told_s = now_s
        left_bytes = max(self._total_bytes - self._bytes, 0)
        eta_s = left_bytes * 8 / 1000 / kbps if kbps and self._total_bytes else None
        self._tell(FetchProgress(self.name, self._state, max(self._bytes, 0), self._total_bytes, kbps, eta_s))
