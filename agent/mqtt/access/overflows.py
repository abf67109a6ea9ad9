"""Topics that repeatedly bring too large messages, and are not subscribed to for a while. Times: time.monotonic."""

from dataclasses import dataclass
from typing import Final

from paho.mqtt.client import topic_matches_sub

_RETAINED_STRIKES: Final = 3
"""Number of too large retained messages before their topic is left out; low, because each subscription brings one."""
_STRIKES: Final = 6
_TOGETHER_S: Final = 60.0
"""Longest time between messages that count together, because a sender's rare mistakes must not silence its topic."""
_FIRST_S: Final = 600.0
_CAP_S: Final = 4 * 3600.0
_MOST: Final = 64


@dataclass(frozen=True)
class Overflow:
    """A received message that ended the connection, because it was too large to take into memory."""

    topic: str
    size_bytes: int
    is_retained: bool


@dataclass
class _Series:
    strikes: int = 0
    last_s: float = 0.0
    until_s: float = 0.0
    wait_s: float = _FIRST_S / 2


class Overflows:
    """Record of too large messages by topic; it outlives connections, and is for one thread."""

    def __init__(self) -> None:
        self._series: Final[dict[str, _Series]] = {}

    def came(self, overflow: Overflow, now_s: float) -> bool:
        """Record a too large message; return True where its topic must not be subscribed to for a while."""
        self._forget(now_s)
        if not overflow.topic or (overflow.topic not in self._series and len(self._series) >= _MOST):
            return False
        series = self._series.setdefault(overflow.topic, _Series())
        series.strikes += 1
        series.last_s = now_s
        was_left_out = series.until_s > 0
        if not was_left_out and series.strikes < (_RETAINED_STRIKES if overflow.is_retained else _STRIKES):
            return False
        series.wait_s = min(2 * series.wait_s, _CAP_S)
        series.until_s = now_s + series.wait_s
        return True

    def left_out(self, now_s: float) -> list[str]:
        """Return the topics that must not be subscribed to now."""
        return [topic for topic, series in self._series.items() if series.until_s > now_s]

    def brings(self, filter_: str, now_s: float) -> bool:
        """Return True where a topic filter matches a topic that must not be subscribed to now."""
        return any(topic_matches_sub(filter_, topic) for topic in self.left_out(now_s))

    def _forget(self, now_s: float) -> None:
        for topic, series in list(self._series.items()):
            if now_s - max(series.last_s, series.until_s) > _TOGETHER_S:
                del self._series[topic]
