"""Topics that the broker denies on a working connection, reported as one alert."""

import time
from typing import Final

from agent.mqtt.alert_latch import RIGHTS_MISSING, AlertLatch

_MOST: Final = 64
_NAMED: Final = 5
_OLD_S: Final = 1200.0
"""A denial without a repetition is forgotten after this time, because the topic is no longer used."""


class Rights:
    """Record of denied topics; `tell` turns it into an alert. For one thread."""

    def __init__(self, notices: AlertLatch) -> None:
        self.missing: Final[dict[str, str]] = {}
        self._denied_s: Final[dict[str, float]] = {}
        self._notices: Final = notices
        self._is_changed = False

    def deny(self, topic: str, why: str) -> None:
        """Record that the broker denies a topic or filter; `why` is shown in the alert."""
        if self.missing.get(topic) != why and (topic in self.missing or len(self.missing) < _MOST):
            self.missing[topic] = why
            self._is_changed = True
        if topic in self.missing:
            self._denied_s[topic] = time.monotonic()

    def grant(self, topic: str) -> None:
        """Record that the broker accepted a message or subscription."""
        if self.missing.pop(topic, None) is not None:
            self._is_changed = True

    def tell(self) -> None:
        """Report changes since the last call; called at each tick, so that a burst makes one alert."""
        for topic, denied_s in list(self._denied_s.items()):
            if topic not in self.missing or time.monotonic() - denied_s > _OLD_S:
                del self._denied_s[topic]
                self.grant(topic)
        if not self._is_changed:
            return
        self._is_changed = False
        if self.missing:
            self._notices.on(RIGHTS_MISSING, self._detail(), renew=True)
        else:
            self._notices.off(RIGHTS_MISSING)

    def _detail(self) -> str:
        named = [f"{topic}: {why}" for topic, why in list(self.missing.items())[:_NAMED]]
        more = len(self.missing) - len(named)
        return "; ".join([*named, *([f"and {more} more"] if more else [])])
