"""Hands the messages of children to their owners, after a check; no exception escapes."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from agent.app.children.cameras import Cameras
from agent.app.children.message_gate import Gate
from agent.health.metrics.exposition import Metrics
from agent.messages.children import LogSetup, Message
from agent.messages.events import ChildUp
from agent.processes.supervisor import Supervisor
from agent.settings import LogLevel

_log: Final = logging.getLogger(__name__)
Owners = dict[str, Callable[[Message], None]]
"""Handlers of messages, by the child's name."""


class ChildMessages:
    """Router of the messages of children, or of their loss; for the loop's thread.

    `owners` has the handler of each child that is no camera process, and `gates` the check of its messages, both by the
    child's name; `level` returns the level to log at.
    """

    def __init__(  # noqa: PLR0913 - what it hands messages to, spelt out
        self,
        supervisor: Supervisor,
        gates: Mapping[str, Gate],
        streams: Cameras,
        owners: Owners,
        *,
        metrics: Metrics,
        level: Callable[[], LogLevel],
    ) -> None:
        self._supervisor: Final = supervisor
        self._gates: Final = gates
        self._of_cameras: Final = Gate((), ())
        self._streams: Final = streams
        self._owners: Final = owners
        self._metrics: Final = metrics
        self._level: Final = level

    def take(self, child: str, message: Message) -> None:
        """Handle a message from a child, or its loss."""
        kind = child.partition(" ")[0]
        refusal = self._why_not(child, message)
        if refusal is not None:
            self._metrics.refused(kind)
            _log.warning(
                "event=message_refused child=%r kind=%s detail=%r", child, type(message).__name__, refusal[:200]
            )
            return
        if isinstance(message, ChildUp):
            self._supervisor.send(child, LogSetup(self._level()))
        try:
            if child in self._owners:
                self._owners[child](message)
            else:
                self._streams.take(child, message)
        except Exception:  # noqa: BLE001 - the loop's edge, where no child may end control
            self._metrics.refused(kind)
            _log.exception("event=message_failed child=%r kind=%s", child, type(message).__name__)

    def _why_not(self, child: str, message: Message) -> str | None:
        """Return the reason to refuse a message, None to accept it; the web process names no line of its own."""
        if child in self._gates:
            return self._gates[child].why_not(message, time.monotonic_ns())
        if child in self._owners:
            return None
        return self._of_cameras.why_not_of_camera(self._streams.of(child), message)
