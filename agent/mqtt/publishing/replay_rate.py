"""Rate limiter for replayed messages."""

from typing import Final

RATE_PER_S: Final = 500.0
"""Replayed messages a second, at most, because a day's backlog must not take a core from inference."""
_BURST: Final = 100.0


class ReplayRateLimiter:
    """Token bucket of RATE_PER_S. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._tokens = _BURST
        self._filled_s: float | None = None

    def may_send(self, now_s: float) -> bool:
        """Return True where the rate allows one more."""
        if self._filled_s is not None:
            self._tokens = min(_BURST, self._tokens + (now_s - self._filled_s) * RATE_PER_S)
        self._filled_s = now_s
        return self._tokens >= 1

    def sent(self) -> None:
        """Count a sent message."""
        self._tokens -= 1
