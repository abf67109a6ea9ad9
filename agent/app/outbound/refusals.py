"""Reports refused commands in the log and on the retained topic `refused`, at most one a second."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from agent.control.state import Now
from agent.messages.payloads import Ack, Refused

_log: Final = logging.getLogger(__name__)
_INTERVAL_S: Final = 1.0
_KEPT: Final = 8
"""Refusals in the topic, the newest last."""
_LONGEST_TOPIC: Final = 200


class Refusals:
    """Reporter of refused commands, for the loop's thread; those beyond one a second are only counted."""

    def __init__(self, publish: Callable[[bytes], None], base: str) -> None:
        self._publish: Final = publish
        self._start: Final = f"{base}/"
        self._told: Final[deque[Refused]] = deque(maxlen=_KEPT)
        self._newest: Ack | None = None
        self._held = 0
        self._due_s = 0.0

    def add(self, ack: Ack) -> None:
        """Hold a refusal for the next `tick`."""
        self._held += 1
        self._newest = ack

    def tick(self, now: Now) -> None:
        """Report the newest refusal if one is due, with the number of those before it."""
        ack = self._newest
        if ack is None or now.monotonic_s < self._due_s:
            return
        self._due_s = now.monotonic_s + _INTERVAL_S
        more, self._held, self._newest = self._held - 1, 0, None
        topic = ack.topic.removeprefix(self._start)[:_LONGEST_TOPIC]
        more_text = f" more={more}" if more else ""
        _log.warning("event=command_refused topic=%r reason=%s detail=%r%s", topic, ack.reason, ack.detail, more_text)
        self._told.append(Refused(now.text(), topic, ack.reason, ack.detail, more))
        self._publish(msgspec.json.encode(list(self._told)))
