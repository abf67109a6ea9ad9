"""Reports to systemd: readiness, watchdog and status line."""

import logging
from collections.abc import Mapping
from typing import Final

from agent.app.children.roll import is_worker
from agent.control.state import NOTHING, State
from agent.health.systemd import Notifier, Watchdog
from agent.messages.topics import of_line

_log: Final = logging.getLogger(__name__)
_PATIENCE_S: Final = 30.0
"""READY does not wait longer than this for a camera process, because the others already serve."""
_LATE_S: Final = 20.0
"""The supervisor kills a silent child within 10 s, so a longer silence means a dead supervisor."""
_STATUS_INTERVAL_S: Final = 1.0


class SystemdStatus:
    """Readiness and watchdog reports to systemd; each `tick` shows that the loop's thread makes progress.

    READY is sent once the workers and every camera process are up; neither a frame nor the broker is waited for. After
    _PATIENCE_S one worker is enough.
    """

    def __init__(self, state: State, notifier: Notifier) -> None:
        self._state: Final = state
        self._notifier: Final = notifier
        self._watchdog: Final = Watchdog(notifier)
        self._started_s: float | None = None
        self._is_ready = False
        self._reload_note = ""
        self._status_due_s = 0.0

    def tick(self, now_s: float, silent_s: Mapping[str, float | None], *, link_up: bool) -> None:
        """Report to systemd. `silent_s` is each child's time without progress; None: not up."""
        self._started_s = now_s if self._started_s is None else self._started_s
        self._look_ready(now_s - self._started_s, silent_s)
        self._watchdog.tick(now_s, [name for name, one in silent_s.items() if one is not None and one > _LATE_S])
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + _STATUS_INTERVAL_S
            self._notifier.status(self._status(link_up=link_up))

    def reloading(self) -> None:
        """Report that a reload has begun."""
        if self._is_ready:
            self._notifier.reloading()

    def reloaded(self, detail: str, *, ok: bool) -> None:
        """Report the result of a reload; the status line shows it until the next reload."""
        self._reload_note = "" if ok and not detail else f"; reload{'' if ok else ' refused'}: {detail}"
        if self._is_ready:
            self._notifier.ready()
        self._status_due_s = 0.0

    def stopping(self) -> None:
        """Report that the agent stops."""
        self._notifier.stopping()
        self._notifier.status("stopping")

    def close(self) -> None:
        """Close the socket."""
        self._notifier.close()

    def _look_ready(self, passed_s: float, silent_s: Mapping[str, float | None]) -> None:
        missing = [name for name, one in silent_s.items() if one is None]
        has_worker = any(is_worker(name) and one is not None for name, one in silent_s.items())
        if self._is_ready or (missing and not (has_worker and passed_s >= _PATIENCE_S)):
            return
        self._is_ready = True
        self._notifier.ready()
        _log.info("event=service_ready missing=%r", ",".join(missing))

    def _status(self, *, link_up: bool) -> str:
        lines, streams = self._state.lines.values(), self._state.streams.values()
        ready = sum(line.published.ready != NOTHING for line in lines)
        online = sum(status == "online" for status in streams)
        alerts = sorted({code for code, _, _ in self._state.alerts})
        return (
            f"{ready} of {len(lines)} lines ready, {online} of {len(streams)} streams online, "
            f"broker {'connected' if link_up else 'away'}"
            + (f"; alerts: {', '.join(alerts)}" if alerts else "")
            + (self._reload_note or self._waiting())  # one of them, because both do not fit
        )

    def _waiting(self) -> str:
        """Name the topic of the first line that waits for a product; the others are counted."""
        plant = self._state.plant
        idle = [line.id for line in self._state.lines.values() if line.selection.product is None]
        if not idle:
            return ""
        first, more = idle[0], f", {len(idle) - 1} more wait" if len(idle) > 1 else ""
        if not plant.lines[first].products:
            return f"; {first} has no products in the configuration{more}"
        own = f"{plant.base}/{of_line(first, 'product/set')}"
        topic = next((one.topic for one in plant.bindings if one.line == first), own)
        return f"; {first} waits for a product on {topic}{more}"
