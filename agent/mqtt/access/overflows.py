"""Topics that bring messages too large for us again and again: left out for a while. Times are time.monotonic."""

from dataclasses import dataclass
from typing import Final

from paho.mqtt.client import topic_matches_sub

_RETAINED_STRIKES: Final = 3
"""A retained message comes again with each subscription, so few are enough."""
_STRIKES: Final = 6
_TOGETHER_S: Final = 60.0
"""Strikes that lie further apart are no series: a sender's mistakes must not make its topic deaf."""
_FIRST_S: Final = 600.0
_CAP_S: Final = 4 * 3600.0
_MOST: Final = 64


@dataclass(frozen=True)
class Overflow:
    """A message to us that ended the connection, because nothing so long is taken into memory."""

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
    """Outlives connections. For one thread."""

    def __init__(self) -> None:
        self._series: Final[dict[str, _Series]] = {}

    def came(self, overflow: Overflow, now_s: float) -> bool:
        """Note a message that was too large; True: its topic is left out from now on."""
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
        """Return the topics that are not to be subscribed to now."""
        return [topic for topic, series in self._series.items() if series.until_s > now_s]

    def brings(self, filter_: str, now_s: float) -> bool:
        """Return True where a filter would bring a topic that is left out."""
        return any(topic_matches_sub(filter_, topic) for topic in self.left_out(now_s))

    def _forget(self, now_s: float) -> None:
        for topic, series in list(self._series.items()):
            if now_s - max(series.last_s, series.until_s) > _TOGETHER_S:
                del self._series[topic]
