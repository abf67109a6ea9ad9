"""Rate limiter for replayed messages, which must not delay live ones."""

import math
from typing import Final

RATE_PER_S: Final = 500.0
"""Replayed messages a second, at most, because a day's backlog must not take a core from inference."""
TARGET_S: Final = 0.02
"""Delay that replay may add on the link before it slows down."""
_FIRST: Final = 4
_MOST: Final = 64.0
_GROWTH: Final = 1.5
_ROUND_S: Final = 0.25
_BURST: Final = 100.0
_WINDOW_S: Final = 30.0


class ReplayRateLimiter:
    """Limit of replayed messages in flight: grown while acknowledgements are on time, else halved.

    Delay is measured against the shortest round trip of the last minute, and only the least delay of a round counts,
    because a broker may pause to write its disk. After LEDBAT (RFC 6817). Times are of one monotonic clock.
    """

    def __init__(self) -> None:
        self._limit = float(_FIRST)
        self._tokens = _BURST
        self._filled_s: float | None = None
        self._shortest_s: list[float] = []
        self._window_since_s = 0.0
        self._round_since_s = 0.0
        self._least_late_s = math.inf
        self._was_rated = False

    def may_send(self, in_flight: int, half_window: int, now_s: float) -> bool:
        """Return True where one more may be sent, with `in_flight` replayed ones in flight."""
        if in_flight >= min(int(self._limit), half_window):
            return False
        if self._filled_s is not None:
            self._tokens = min(_BURST, self._tokens + (now_s - self._filled_s) * RATE_PER_S)
        self._filled_s = now_s
        if self._tokens < 1:
            self._was_rated = True
            return False
        return True

    def sent(self) -> None:
        """Count a sent message."""
        self._tokens -= 1

    def arrived(self, took_s: float, now_s: float) -> None:
        """Record the round trip of a replayed message."""
        late_s = took_s - self._base_s(took_s, now_s)
        self._least_late_s = min(late_s, self._least_late_s)
        if now_s - self._round_since_s < max(_ROUND_S, took_s):
            return
        is_late = self._least_late_s > TARGET_S
        self._limit = max(1.0, self._limit / 2) if is_late else min(_MOST, self._limit * _GROWTH)
        self._round_since_s, self._least_late_s = now_s, math.inf

    def lost(self) -> None:
        """Start over, because another connection may take another path."""
        self._limit = float(_FIRST)
        self._shortest_s.clear()

    def take_rated(self) -> bool:
        """Return True where the rate alone held a message back since the last call."""
        was, self._was_rated = self._was_rated, False
        return was

    def _base_s(self, took_s: float, now_s: float) -> float:
        if not self._shortest_s or now_s - self._window_since_s > _WINDOW_S:
            self._window_since_s = now_s
            self._shortest_s = [*self._shortest_s[-1:], took_s]
        self._shortest_s[-1] = min(self._shortest_s[-1], took_s)
        return min(self._shortest_s)
