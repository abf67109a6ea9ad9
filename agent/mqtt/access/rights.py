"""Topics that the broker denies us while the connection stands: one alert that names them all."""

import time
from typing import Final

from agent.mqtt.alert_latch import RIGHTS_MISSING, AlertLatch

_MOST: Final = 64
_NAMED: Final = 5
_OLD_S: Final = 1200.0
"""What is still wanted is tried again, and denied again, sooner; a topic that nobody uses any more is forgotten."""


class Rights:
    """Notes what is denied and granted; `tell` makes an alert of it. For one thread."""

    def __init__(self, notices: AlertLatch) -> None:
        self.missing: Final[dict[str, str]] = {}
        self._denied_s: Final[dict[str, float]] = {}
        self._notices: Final = notices
        self._is_changed = False

    def deny(self, topic: str, why: str) -> None:
        """Note that the broker does not let us use a topic or filter."""
        if self.missing.get(topic) != why and (topic in self.missing or len(self.missing) < _MOST):
            self.missing[topic] = why
            self._is_changed = True
        if topic in self.missing:
            self._denied_s[topic] = time.monotonic()

    def grant(self, topic: str) -> None:
        """Note that the broker took a message or subscription."""
        if self.missing.pop(topic, None) is not None:
            self._is_changed = True

    def tell(self) -> None:
        """Notice what changed since the last call; owed at each tick, so that a burst is one notice."""
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
