"""Echo ping through the broker: round-trip time and dead-link detection."""

import secrets
from typing import Final

_DEAF: Final = 3
_EAGER_S: Final = 0.25


class EchoPing:
    """Pings of one connection; times are seconds of one monotonic clock.

    A ping is overdue when neither its echo nor any other packet came for one keepalive: other packets count, because a
    full queue or a slow link may delay the echo. Acknowledgements alone prove no delivery, so three keepalives without
    a delivered message also end the link. A broker that never echoed (it may forbid the topic) is left to paho's
    keepalive.
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
        """Return the payload of a ping if one is due, else None.

        A lost ping is repeated after the keepalive, or after 0.25 s if `is_eager`.
        """
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
        """Record an echo; one of another client's or of an older ping shows delivery, but gives no round-trip time."""
        self.heard(now_s)
        if self._sent_s is not None and payload == self._payload():
            self.milliseconds = (now_s - self._sent_s) * 1000
            self._sent_s = None

    def is_own(self, payload: bytes) -> bool:
        """Return True for a ping of this connection."""
        return payload.startswith(self._token.encode())

    def heard(self, now_s: float) -> None:
        """Record a delivered message."""
        self._heard_s = now_s

    def is_overdue(self, now_s: float, arrived_s: float) -> bool:
        """Return True where the link is dead or delivers nothing; the last packet came at `arrived_s`."""
        if self.milliseconds is None or self._sent_s is None:
            return False
        silent_s = now_s - max(self._waits_since_s, arrived_s)
        deaf_s = now_s - max(self._waits_since_s, self._heard_s)
        return silent_s > self._limit_s or deaf_s > _DEAF * self._limit_s

    def is_silent(self, now_s: float) -> bool:
        """Return True where no ping ever came back, and the first is older than the keepalive."""
        return self.milliseconds is None and self._sent_s is not None and now_s - self._waits_since_s > self._limit_s

    def _payload(self) -> bytes:
        return f"{self._token}-{self._count}".encode()
