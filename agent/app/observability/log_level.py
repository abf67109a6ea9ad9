"""Log level of all processes: the configured one, or another for a bounded time."""

import logging
from collections.abc import Callable
from typing import Final

from agent.processes.logs import set_level
from agent.settings import LogLevel

_log: Final = logging.getLogger(__name__)


class LogLevels:
    """Holder of the present log level, for the loop's thread; `tell` passes each change to the children."""

    def __init__(self, configured: LogLevel, tell: Callable[[LogLevel], None]) -> None:
        self._configured = configured
        self._tell: Final = tell
        self._level = configured
        self._until_s: float | None = None

    @property
    def level(self) -> LogLevel:
        """The level in force."""
        return self._level

    def configure(self, level: LogLevel) -> None:
        """Take the level of a reloaded configuration; a temporary level stays until its time is over."""
        self._configured = level
        if self._until_s is None:
            self._set(level, "of the configuration")

    def set_for(self, level: LogLevel, for_s: float, now_s: float) -> None:
        """Log at `level` for `for_s` seconds from `now_s` (monotonic) on."""
        self._until_s = now_s + for_s
        self._set(level, f"asked for, for {for_s:g} s")

    def tick(self, now_s: float) -> None:
        """Return to the configured level once the time is over."""
        if self._until_s is not None and now_s >= self._until_s:
            self._until_s = None
            self._set(self._configured, "its time is over")

    def _set(self, level: LogLevel, why: str) -> None:
        if level == self._level:
            return
        # told at the lower of both levels, because a change to `warning` would hide it
        if level == "warning":
            _log.info("event=log_level level=%s why=%r", level, why)
        self._level = level
        set_level(level)
        self._tell(level)
        if level != "warning":
            _log.info("event=log_level level=%s why=%r", level, why)
