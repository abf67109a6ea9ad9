"""Sampling of processes' memory from outside, on threads of the benchmark."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.bench.plant.children import family_of

PSS_EVERY_S: Final = 0.05
STATM_EVERY_S: Final = 0.01
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_FAMILY_S: Final = 1.0


@dataclass(frozen=True)
class Reading:
    """Memory at one moment."""

    at_s: float
    """time.monotonic()."""
    bytes: int


class Probe:
    """Sampling thread of a `running` block, whose `readings` grow meanwhile."""

    def __init__(self, read: Callable[[], int], every_s: float) -> None:
        self.readings: Final[list[Reading]] = []
        self._read: Final = read
        self._every_s: Final = every_s
        self._stopping: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="probe", daemon=True)

    @contextmanager
    def running(self) -> Iterator["Probe"]:
        """Sample for the length of a block."""
        self._thread.start()
        try:
            yield self
        finally:
            self._stopping.set()
            self._thread.join()

    def between(self, from_s: float, to_s: float) -> list[int]:
        """Return the readings of a period."""
        return [one.bytes for one in self.readings if from_s <= one.at_s <= to_s]

    def last(self, seconds: float) -> list[int]:
        """Return the readings of the last `seconds`."""
        return self.between(time.monotonic() - seconds, time.monotonic())

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            held = self._read()
            if held:  # 0: the process is gone, or starts
                self.readings.append(Reading(time.monotonic(), held))


def pss_bytes(pid: int) -> int:
    """Return a process' proportional share (PSS) of memory; 0 where it has ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))


def rss_bytes(pid: int) -> int:
    """Return a process' resident bytes from statm, which is cheap to read; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def family_probe(pid: int) -> Probe:
    """Return a probe of the summed PSS of a process and its descendants."""
    known: list[int] = []
    looked_s = [float("-inf")]

    def read() -> int:
        if time.monotonic() - looked_s[0] > _FAMILY_S:
            looked_s[0] = time.monotonic()
            known[:] = [one.pid for one in family_of(pid)]
        return sum(pss_bytes(one) for one in known)

    return Probe(read, PSS_EVERY_S)


def worker_probe(pid: int) -> Probe:
    """Return a fast probe of one process' resident bytes."""
    return Probe(lambda: rss_bytes(pid), STATM_EVERY_S)
