"""What people must know of link and outbox: told when it begins and when it is over, not at each sign of it."""

import time
from collections.abc import Callable
from typing import Final

from agent.messages.children import Message
from agent.messages.events import Noticed

BROKER_REFUSED: Final = "broker_refused"
"""The broker, or we, refused the connection: credentials, certificates, files of TLS."""
RIGHTS_MISSING: Final = "rights_missing"
"""The broker refused a message or a subscription while the connection stands."""
MESSAGE_TOO_LARGE: Final = "message_too_large"
"""A message was longer than the broker takes, or one to us longer than we take."""
OUTBOX_DISK: Final = "outbox_disk"
"""The outbox's disk takes nothing; what waits is in memory."""
OUTBOX_DAMAGED: Final = "outbox_damaged"
"""A damaged file of the outbox was set aside."""
QUIET_S: Final = 30.0
"""So long a trouble that comes and goes is not called over."""


class AlertLatch:
    """Puts a Noticed for each change. For one thread."""

    def __init__(self, put: Callable[[Message], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._put: Final = put
        self._clock: Final = clock
        self._on: Final[dict[str, float]] = {}
        self._details: Final[dict[str, str]] = {}

    def on(self, code: str, detail: str, *, renew: bool = False) -> None:
        """Note a sign of trouble; with `renew`, another detail than before is told as well."""
        if code not in self._on or (renew and self._details[code] != detail):
            self._details[code] = detail
            self._put(Noticed(code, on=True, detail=detail))
        self._on[code] = self._clock()

    def off(self, code: str, quiet_s: float = 0.0) -> None:
        """Note that all is well, and say so if there was no sign of trouble for `quiet_s`."""
        if code in self._on and self._clock() - self._on[code] >= quiet_s:
            del self._on[code], self._details[code]
            self._put(Noticed(code, on=False))
