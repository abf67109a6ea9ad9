"""Ends a worker that takes the memory of other groups, where no kernel wall does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import psutil

from agent.health.interval_timer import IntervalTimer
from agent.health.sensors.available_memory import available_bytes, unshared_bytes

SHORT_SHARE: Final = 0.1
"""Share of the device's memory below which it is short: caps on models no longer rise, and at half of it they fall."""
_LOOK_INTERVAL_S: Final = 0.5


@dataclass(frozen=True)
class HostMemory:
    """Memory of the whole device, without that of a GPU, in bytes."""

    available_bytes: int
    total_bytes: int

    @classmethod
    def read(cls) -> "HostMemory":
        """Return the present values."""
        return cls(available_bytes(), int(psutil.virtual_memory().total))

    @property
    def spare_bytes(self) -> int:
        """Bytes below which the device is short of memory."""
        return int(self.total_bytes * SHORT_SHARE)


class MemoryGuard:
    """Watch over the memory that each group's worker takes for itself; for the loop's thread.

    A worker is ended that takes more than its group may, in two looks in a row, while the device is short of memory.
    The kernel's files that are read need no lock of the worker, so a look takes microseconds.
    """

    def __init__(
        self,
        end: Callable[[str, str], None],
        device: Callable[[], HostMemory] = HostMemory.read,
        taken: Callable[[int], int] = unshared_bytes,
    ) -> None:
        """Store `end(group, detail)`; tests replace the readings of the device and of a process."""
        self._end: Final = end
        self._device: Final = device
        self._taken: Final = taken
        self._cadence: Final = IntervalTimer(_LOOK_INTERVAL_S)
        self._beyond: frozenset[str] = frozenset()

    def tick(self, now_s: float, pids: Mapping[str, int], most_bytes: Mapping[str, int]) -> None:
        """Look again where it is due; `pids` and `most_bytes` are by group."""
        if not self._cadence.is_due(now_s):
            return
        device = self._device()
        is_short = device.available_bytes < device.spare_bytes
        taken = {group: self._taken(pid) for group, pid in pids.items()} if is_short else {}
        before, self._beyond = (
            self._beyond,
            frozenset(group for group, size in taken.items() if size > most_bytes[group]),
        )
        for group in self._beyond & before:
            taken_mib, most_mib, left_mib = (
                size >> 20 for size in (taken[group], most_bytes[group], device.available_bytes)
            )
            self._end(
                group, f"{taken_mib} MiB of memory, its group has {most_mib}; {left_mib} MiB of the device's are left"
            )
