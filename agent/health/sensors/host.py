"""Memory of the device and of the agent's processes, from the kernel's files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from agent.health.sensors.available_memory import available_bytes
from agent.health.sensors.process_sizes import ProcessSizes

_PRESSURE: Final = Path("/proc/pressure/memory")


@dataclass(frozen=True)
class HostReading:
    """Memory of the device and of the agent's processes."""

    total_bytes: int
    free_bytes: int
    """MemAvailable of /proc/meminfo."""
    available_bytes: int
    """MemAvailable, or what the cgroup's limits leave where that is less."""
    stalled: float | None = None
    """Share of the last 10 s in which some processes waited for memory (PSI); None: not counted."""
    halted: float | None = None
    """Share in which all processes waited at once; see https://docs.kernel.org/accounting/psi.html. None as above."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """Memory of each process in bytes (see `ProcessSizes`), by its name."""


class Host:
    """Reader of the kernel's memory files; a read may block for a process in trouble.

    Any thread may set `pids`; one thread reads.
    """

    def __init__(self, pressure: Path = _PRESSURE) -> None:
        self.pids: Mapping[str, int] = {}
        self._pressure: Final = pressure
        self._sizes: Final = ProcessSizes()

    def read(self) -> HostReading:
        """Return the present readings."""
        memory, pids = psutil.virtual_memory(), self.pids
        sizes = self._sizes.read(pids.values())
        return HostReading(
            total_bytes=int(memory.total),
            free_bytes=int(memory.available),
            available_bytes=available_bytes(),
            stalled=self._share("some"),
            halted=self._share("full"),
            processes={name: sizes[pid] for name, pid in pids.items()},
        )

    def _share(self, kind: str) -> float | None:
        """Return the share of the last 10 s from a line such as `some avg10=0.12 ...`; None where there is none."""
        try:
            lines = self._pressure.read_text(encoding="ascii").splitlines()
            words = next(line.split() for line in lines if line.startswith(kind))
            return float(words[1].removeprefix("avg10=")) / 100
        except (OSError, StopIteration, IndexError, ValueError):
            return None
