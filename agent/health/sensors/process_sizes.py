"""Memory of the agent's processes as proportional shares, of which each reading measures one."""

from collections.abc import Callable, Collection
from typing import Final

from agent.health.sensors.available_memory import proportional_bytes, resident_bytes


class ProcessSizes:
    """Estimator of the proportional share (PSS) of each process; for one thread.

    Measuring all of them took 4 to 6 ms of a core at once, which delayed frames of lines. So one is measured in each
    reading, in turn. What another shares with processes is taken to be unchanged since its own turn; what it holds
    alone is up to date.
    """

    def __init__(
        self,
        measure: Callable[[int], int | None] = proportional_bytes,
        resident: Callable[[int], int] = resident_bytes,
    ) -> None:
        """Store the two sources of bytes by process id; only tests pass others."""
        self._measure: Final = measure
        self._resident: Final = resident
        self._discounts: dict[int, int] = {}
        """Resident bytes beyond the share, by process id; the one that was measured longest ago comes first."""

    def read(self, pids: Collection[int]) -> dict[int, int]:
        """Return the bytes of each process, 0 for one that ended; one that is new is measured at once."""
        self._discounts = {pid: discount for pid, discount in self._discounts.items() if pid in pids}
        new = [pid for pid in pids if pid not in self._discounts]
        for pid in new or list(self._discounts)[:1]:
            self._discounts.pop(pid, None)
            self._discounts[pid] = self._discount(pid)
        return {pid: max(0, self._resident(pid) - self._discounts[pid]) for pid in pids}

    def _discount(self, pid: int) -> int:
        resident_bytes, share_bytes = self._resident(pid), self._measure(pid)
        return max(0, resident_bytes - share_bytes) if share_bytes is not None else 0
