"""The ping to itself: how long a message takes through the broker, and whether one still comes back."""

import secrets
from typing import Final


class RoundTrip:
    """Pings of one connection; times are seconds of one monotonic clock.

    A broker that never echoed (it may forbid the topic) is not overdue: then paho's keepalive must do.
    """

    def __init__(self, keepalive_s: float) -> None:
        self.milliseconds: float | None = None
        self._interval_s: Final = keepalive_s / 2
        self._limit_s: Final = keepalive_s
        self._token: Final = secrets.token_hex(4)
        self._count = 0
        self._sent_s: float | None = None
        self._next_s: float | None = None

    def due(self, now_s: float) -> bytes | None:
        """Return a payload if a ping is to be sent now."""
        if self._sent_s is not None or (self._next_s is not None and now_s < self._next_s):
            return None
        self._count += 1
        self._sent_s = now_s
        self._next_s = now_s + self._interval_s
        return self._payload()

    def echoed(self, payload: bytes, now_s: float) -> None:
        """Note what came back; another's ping, or an older one, is nothing."""
        if self._sent_s is not None and payload == self._payload():
            self.milliseconds = (now_s - self._sent_s) * 1000
            self._sent_s = None

    def is_overdue(self, now_s: float) -> bool:
        """Say whether the last ping has been waiting for longer than the keepalive."""
        return self.milliseconds is not None and self._sent_s is not None and now_s - self._sent_s > self._limit_s

    def is_silent(self, now_s: float) -> bool:
        """Say whether not one ping came back, the first of them longer ago than the keepalive."""
        return self.milliseconds is None and self._sent_s is not None and now_s - self._sent_s > self._limit_s

    def _payload(self) -> bytes:
        return f"{self._token}-{self._count}".encode()
