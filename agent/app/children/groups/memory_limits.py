"""Writes memory limits of cgroups without waiting for the kernel, which takes pages back before it returns."""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Final

_log: Final = logging.getLogger(__name__)


class MemoryLimits:
    """Memory limit of each group's cgroup. Threading: `set` is for one thread, which it never holds up.

    A raised limit is written at once, because that takes the kernel no time, and the worker may use what it is lent; a
    group's first one, too, before it has a worker. A lowered one is written by a thread, which ends when all are.
    """

    def __init__(self, write: Callable[[str, int], None]) -> None:
        """Store `write(group, limit_bytes)`, which raises nothing."""
        self._write: Final = write
        self._lock: Final = threading.Lock()
        self._wanted: Final[dict[str, int]] = {}
        self._written: Final[dict[str, int]] = {}
        """What each cgroup has, as far as `write` has returned or is about to raise it."""
        self._is_lowering = False

    def set(self, limits_bytes: Mapping[str, int]) -> None:
        """Set the limits of some groups; of several that wait to be written the newest counts."""
        for group, limit_bytes in limits_bytes.items():
            with self._lock:
                self._wanted[group] = limit_bytes
                is_raised = limit_bytes > self._written.get(group, -1)
                if is_raised:
                    self._written[group] = limit_bytes
            if is_raised:
                self._write(group, limit_bytes)
        with self._lock:
            is_beginning = self._wanted != self._written and not self._is_lowering
            self._is_lowering |= is_beginning
        if is_beginning:
            self._begin()

    def _begin(self) -> None:
        try:
            threading.Thread(target=self._lower, name="memory limits", daemon=True).start()
        except RuntimeError as error:  # no memory for a thread, which control must survive; the next call tries again
            _log.warning("event=limits_not_lowered detail=%r", str(error))
            self._is_lowering = False

    def _lower(self) -> None:
        while True:
            with self._lock:
                group = next((one for one, size in self._wanted.items() if self._written[one] != size), None)
                if group is None:
                    self._is_lowering = False
                    return
                limit_bytes = self._written[group] = self._wanted[group]
            self._write(group, limit_bytes)
            while (raised_bytes := self._overtaken_by(group, limit_bytes)) is not None:
                limit_bytes = raised_bytes
                self._write(group, limit_bytes)

    def _overtaken_by(self, group: str, limit_bytes: int) -> int | None:
        """Return the limit that was written while `limit_bytes` was, in whichever order; None without one."""
        with self._lock:
            return self._written[group] if self._written[group] != limit_bytes else None
