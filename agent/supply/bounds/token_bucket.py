"""Rate limit of downloads: a token bucket."""

import time
from collections.abc import Callable
from typing import Final

_BURST_S: Final = 0.25


class TokenBucket:
    """Bucket that holds a quarter of a second's bytes; a `rate` of 0 limits nothing. For one thread."""

    def __init__(
        self,
        rate_bytes_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate: Final = rate_bytes_s
        self._burst: Final = rate_bytes_s * _BURST_S
        self._clock: Final = clock
        self._sleep: Final = sleep
        self._tokens = 0.0
        self._filled_s = clock()

    def take(self, amount_bytes: int) -> None:
        """Take bytes that have arrived, and sleep until the rate is kept again."""
        if not self._rate:
            return
        now_s = self._clock()
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._rate) - amount_bytes
        self._filled_s = now_s
        if self._tokens < 0:
            self._sleep(-self._tokens / self._rate)
