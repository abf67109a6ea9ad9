"""Alerts of link and outbox, reported once when a condition begins and once when it ends."""

import time
from collections.abc import Callable
from typing import Final

from agent.messages.children import Message
from agent.messages.events import Noticed

BROKER_REFUSED: Final = "broker_refused"
"""The broker refused the connection, or our own credentials, certificates or TLS files are invalid."""
RIGHTS_MISSING: Final = "rights_missing"
"""The broker refused a message or a subscription on a working connection."""
MESSAGE_TOO_LARGE: Final = "message_too_large"
"""A message was larger than the broker accepts, or a received one larger than the agent accepts."""
OUTBOX_DISK: Final = "outbox_disk"
"""The outbox's disk refuses writes, so messages wait in memory."""
OUTBOX_DAMAGED: Final = "outbox_damaged"
"""A damaged outbox file was set aside."""
QUIET_S: Final = 30.0
"""Time without a sign of an intermittent condition after which it ends."""


class AlertLatch:
    """Latch that enqueues a Noticed event for each change of a condition; for one thread."""

    def __init__(self, put: Callable[[Message], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._put: Final = put
        self._clock: Final = clock
        self._on: Final[dict[str, float]] = {}
        self._details: Final[dict[str, str]] = {}

    def on(self, code: str, detail: str, *, renew: bool = False) -> None:
        """Report a sign of trouble; with `renew`, a changed detail is reported again."""
        if code not in self._on or (renew and self._details[code] != detail):
            self._details[code] = detail
            self._put(Noticed(code, on=True, detail=detail))
        self._on[code] = self._clock()

    def off(self, code: str, quiet_s: float = 0.0) -> None:
        """Report the end of a condition, if its last sign is `quiet_s` old."""
        if code in self._on and self._clock() - self._on[code] >= quiet_s:
            del self._on[code], self._details[code]
            self._put(Noticed(code, on=False))
