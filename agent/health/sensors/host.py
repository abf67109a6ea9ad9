"""The memory of the device and of the agent's processes, from the kernel's own files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from agent.health.sensors.available_memory import available_bytes, resident_bytes

_PRESSURE: Final = Path("/proc/pressure/memory")


@dataclass(frozen=True)
class HostReading:
    """`free_bytes` is MemAvailable; `available_bytes` the same within the cgroup's limit. `processes` are shares (PSS).

    `stalled` and `halted` are the shares of the last 10 s in which some, or all, processes waited for memory (PSI,
    https://docs.kernel.org/accounting/psi.html); None where the kernel does not count it.
    """

    total_bytes: int
    free_bytes: int
    available_bytes: int
    stalled: float | None = None
    halted: float | None = None
    processes: Mapping[str, int] = field(default_factory=dict)


class Host:
    """Reads the kernel's files; a process that is in trouble may hold that up. `pids` may be set by another thread."""

    def __init__(self, pressure: Path = _PRESSURE) -> None:
        self.pids: Mapping[str, int] = {}
        self._pressure: Final = pressure

    def read(self) -> HostReading:
        """Return how it stands now."""
        memory = psutil.virtual_memory()
        return HostReading(
            total_bytes=int(memory.total),
            free_bytes=int(memory.available),
            available_bytes=available_bytes(),
            stalled=self._share("some"),
            halted=self._share("full"),
            processes={name: resident_bytes(pid) for name, pid in self.pids.items()},
        )

    def _share(self, kind: str) -> float | None:
        """Read a line such as `some avg10=0.12 avg60=0.05 avg300=0.01 total=123456`."""
        try:
            lines = self._pressure.read_text(encoding="ascii").splitlines()
            words = next(line.split() for line in lines if line.startswith(kind))
            return float(words[1].removeprefix("avg10=")) / 100
        except (OSError, StopIteration, IndexError, ValueError):
            return None
