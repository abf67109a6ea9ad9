"""Rate of broker acknowledgements, known only while the link is the bottleneck."""

from collections import deque
from typing import Final

BEHIND_S: Final = 5.0
"""Time that messages must wait for the link before a rate is known, and the window it is measured over."""
_BITS: Final = 8 / 1000


class AckRate:
    """Acknowledged bytes over time, on one monotonic clock; `look` must be called each 0.5 s."""

    def __init__(self) -> None:
        self._total_bytes = 0
        self._samples: Final[deque[tuple[float, int]]] = deque()

    def arrived(self, size_bytes: int) -> None:
        """Count an acknowledged message."""
        self._total_bytes += size_bytes

    def look(self, now_s: float, *, is_behind: bool) -> None:
        """Record whether messages wait for the link; a call without any starts the measurement over."""
        if not is_behind:
            self._samples.clear()
            return
        self._samples.append((now_s, self._total_bytes))
        while len(self._samples) > 1 and self._samples[1][0] <= now_s - BEHIND_S:
            self._samples.popleft()

    def kbps(self, now_s: float) -> float | None:
        """Return the acknowledged kbit/s of the last 5 s or more; None unless messages waited for the link then."""
        if not self._samples:
            return None
        since_s, before_bytes = self._samples[0]
        if now_s - since_s < BEHIND_S:
            return None
        return (self._total_bytes - before_bytes) * _BITS / (now_s - since_s)
