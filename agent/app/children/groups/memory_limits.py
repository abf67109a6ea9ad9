"""Writes memory limits of cgroups without waiting for the kernel, which takes pages back before it returns."""

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

_log: Final = logging.getLogger(__name__)


class MemoryLimits:
    """Memory limit of each group's cgroup. Threading: `set` is for one thread, which it never holds up.

    A raised limit is written at once, because that takes the kernel no time, and the worker may use what it is lent; a
    group's first one, too, before it has a worker. A lowered one is written by a thread, which ends when all are. What
    is raised beside it may still be less than the group has at that moment, so another thread writes that.
    """

    def __init__(self, write: Callable[[str, int], None]) -> None:
        """Store `write(group, limit_bytes)`, which raises nothing."""
        self._write: Final = write
        self._lock: Final = threading.Lock()
        self._wanted: Final[dict[str, int]] = {}
        self._written: Final[dict[str, int]] = {}
        """Limit of each cgroup, as far as `write` has returned or is about to raise it."""
        self._writing: Final[Counter[str]] = Counter()
        """Threads that write each group's limit, and may wait for the kernel."""
        self._is_lowering = False

    def set(self, limits_bytes: Mapping[str, int]) -> None:
        """Set the limits of some groups; of several that wait to be written the newest counts."""
        for group, limit_bytes in limits_bytes.items():
            with self._lock:
                self._wanted[group] = limit_bytes
                is_raised = limit_bytes > self._written.get(group, -1)
                is_beside = is_raised and self._writing[group] > 0
                if is_raised:
                    self._written[group] = limit_bytes
                if is_beside:
                    self._writing[group] += 1
            if is_beside:
                self._raise_beside(group, limit_bytes)
            elif is_raised:
                self._write(group, limit_bytes)
        with self._lock:
            is_beginning = self._wanted != self._written and not self._is_lowering
            self._is_lowering |= is_beginning
        if is_beginning:
            self._begin()

    def _raise_beside(self, group: str, limit_bytes: int) -> None:
        try:
            self._start(self._write_newest, group, limit_bytes)
        except RuntimeError:  # no memory for a thread; the worker is told of the memory all the same
            self._write_newest(group, limit_bytes)

    def _begin(self) -> None:
        try:
            self._start(self._lower)
        except RuntimeError as error:  # no memory for a thread, which control must survive; the next call tries again
            _log.warning("event=limits_not_lowered detail=%r", str(error))
            self._is_lowering = False

    @staticmethod
    def _start(run: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=run, args=arguments, name="memory limits", daemon=True).start()

    def _lower(self) -> None:
        while True:
            with self._lock:
                group = next((one for one, size in self._wanted.items() if self._written[one] != size), None)
                if group is None:
                    self._is_lowering = False
                    return
                limit_bytes = self._written[group] = self._wanted[group]
                self._writing[group] += 1
            self._write_newest(group, limit_bytes)

    def _write_newest(self, group: str, limit_bytes: int) -> None:
        """Write a limit, and again what another thread has written meanwhile, in whichever order the kernel took both.

        Ends the thread's count in `_writing`.
        """
        while True:
            self._write(group, limit_bytes)
            with self._lock:
                if self._written[group] == limit_bytes:
                    self._writing[group] -= 1
                    return
                limit_bytes = self._written[group]
