"""How fast the broker acknowledges, told only while the way to it is what holds messages up."""

from collections import deque
from typing import Final

BEHIND_S: Final = 5.0
"""So long the outbox must have been behind before a rate says anything; it is measured over the last so long, too."""
_BITS: Final = 8 / 1000


class AckRate:
    """Acknowledged bytes over time; times are seconds of one monotonic clock, and `look` is owed each 0.5 s."""

    def __init__(self) -> None:
        self._total_bytes = 0
        self._samples: Final[deque[tuple[float, int]]] = deque()

    def arrived(self, size_bytes: int) -> None:
        """Count a message that the broker acknowledged."""
        self._total_bytes += size_bytes

    def look(self, now_s: float, *, is_behind: bool) -> None:
        """Note whether messages wait for the wire just now; one look without any begins anew."""
        if not is_behind:
            self._samples.clear()
            return
        self._samples.append((now_s, self._total_bytes))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - BEHIND_S:
            self._samples.popleft()

    def kbps(self, now_s: float) -> float | None:
        """Return kbit/s over the last 5 s or a little more; None while it has not been behind for so long."""
        if not self._samples:
            return None
        since_s, before_bytes = self._samples[0]
        if now_s - since_s < BEHIND_S:
            return None
        return (self._total_bytes - before_bytes) * _BITS / (now_s - since_s)
