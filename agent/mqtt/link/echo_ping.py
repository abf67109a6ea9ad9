"""The ping to itself: how long a message takes through the broker, and whether one still comes back."""

import secrets
from typing import Final

_DEAF: Final = 3
_EAGER_S: Final = 0.25


class EchoPing:
    """Pings of one connection; times are seconds of one monotonic clock.

    A ping is overdue when neither its echo nor anything else came for a keepalive. A broker drops an echo where much
    waits for us, and a slow way holds it up; so what else comes is life too. That it acknowledges proves less than that
    it delivers: with nothing delivered for three keepalives we are deaf. A broker that never echoed (it may forbid the
    topic) is not overdue: then paho's keepalive must do.
    """

    def __init__(self, keepalive_s: float) -> None:
        self.milliseconds: float | None = None
        self._interval_s: Final = keepalive_s / 2
        self._limit_s: Final = keepalive_s
        self._token: Final = secrets.token_hex(4)
        self._count = 0
        self._sent_s: float | None = None
        self._waits_since_s = 0.0
        self._heard_s = 0.0
        self._next_s: float | None = None

    def due(self, now_s: float, *, is_eager: bool = False) -> bytes | None:
        """Return a payload if a ping is to be sent now; one that did not come back is sent anew, soon if `is_eager`."""
        if self._sent_s is not None and now_s - self._sent_s <= (_EAGER_S if is_eager else self._limit_s):
            return None
        if self._next_s is not None and now_s < self._next_s and not is_eager:
            return None
        if self._sent_s is None:
            self._waits_since_s = now_s
        self._count += 1
        self._sent_s = now_s
        self._next_s = now_s + self._interval_s
        return self._payload()

    def echoed(self, payload: bytes, now_s: float) -> None:
        """Note what came back; another's ping, or an older one, is no round trip, but was delivered."""
        self.heard(now_s)
        if self._sent_s is not None and payload == self._payload():
            self.milliseconds = (now_s - self._sent_s) * 1000
            self._sent_s = None

    def is_own(self, payload: bytes) -> bool:
        """Whether a ping is one of this connection."""
        return payload.startswith(self._token.encode())

    def heard(self, now_s: float) -> None:
        """Note that the broker delivered a message to us."""
        self._heard_s = now_s

    def is_overdue(self, now_s: float, arrived_s: float) -> bool:
        """Say whether the link is dead, or we are deaf; the last packet of any kind came at `arrived_s`."""
        if self.milliseconds is None or self._sent_s is None:
            return False
        silent_s = now_s - max(self._waits_since_s, arrived_s)
        deaf_s = now_s - max(self._waits_since_s, self._heard_s)
        return silent_s > self._limit_s or deaf_s > _DEAF * self._limit_s

    def is_silent(self, now_s: float) -> bool:
        """Say whether not one ping came back, the first of them longer ago than the keepalive."""
        return self.milliseconds is None and self._sent_s is not None and now_s - self._waits_since_s > self._limit_s

    def _payload(self) -> bytes:
        return f"{self._token}-{self._count}".encode()
