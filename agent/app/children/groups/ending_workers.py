"""Watches over the memory of killed workers, which the kernel needs a while to take back."""

import logging
from collections.abc import Callable, Collection
from typing import Final

from agent.health.sensors.available_memory import unshared_bytes

_log: Final = logging.getLogger(__name__)
_PATIENCE_S: Final = 5.0
"""On two busy cores the kernel took up to 0.5 s to end a process of 2 GB."""


class EndingWorkers:
    """Killed workers by group; for the loop's thread."""

    def __init__(self, ending: Callable[[str], Collection[int]], held: Callable[[int], int] = unshared_bytes) -> None:
        """Store `ending(group)`, which returns the ids of killed processes; tests replace the reading of one."""
        self._ending: Final = ending
        self._held: Final = held
        self._lost_s: Final[dict[str, float]] = {}
        """Time at which each group's newest one was killed."""
        self._kept: Final[dict[str, int]] = {}
        """Bytes that those hold which take too long to end, by group."""

    @property
    def kept_bytes(self) -> int:
        """Bytes that killed workers hold which take too long to end."""
        return sum(self._kept.values())

    def lost(self, group: str, now_s: float) -> bool:
        """Record that a group's worker is lost; return True where it is gone, with any that were killed before."""
        if not self._ending(group):
            self._forget(group)
            return True
        self._lost_s[group] = now_s
        return False

    def look(self, now_s: float) -> tuple[list[str], dict[str, int]]:
        """Return the groups whose killed workers are all gone, and what others hold that take too long, in bytes."""
        pids = {group: self._ending(group) for group in self._lost_s}
        gone = [group for group, ending in pids.items() if not ending]
        for group in gone:
            self._forget(group)
        late = [group for group, lost_s in self._lost_s.items() if now_s - lost_s > _PATIENCE_S]
        for group in late:
            held_bytes = sum(map(self._held, pids[group]))
            if group not in self._kept:
                words = ",".join(map(str, pids[group]))
                _log.error("event=worker_does_not_end group=%s pids=%s bytes=%d", group, words, held_bytes)
            self._kept[group] = held_bytes
        return gone, {group: self._kept[group] for group in late}

    def _forget(self, group: str) -> None:
        self._lost_s.pop(group, None)
        self._kept.pop(group, None)
