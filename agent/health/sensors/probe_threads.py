"""Probes on threads of their own, merged into one reading."""

import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.health.probes import Probe
from agent.health.probes.jtop import JtopProbe
from agent.health.probes.nvml import NvmlProbe
from agent.health.probes.psutil import PsutilProbe
from agent.health.probes.sysfs import SysfsProbe
from agent.health.sensors.host import Host, HostReading
from agent.health.sensors.reading import Reading, merged
from agent.health.sensors.sampler import Sampler

INTERVAL_S: Final = 5.0
STALE_S: Final = 20.0
"""A reading older than this is no longer reported."""


def own_probes() -> tuple[Probe, ...]:
    """Return every kind of probe, the best first; the thread of one whose source is absent ends."""
    return SysfsProbe(), JtopProbe(), NvmlProbe(), PsutilProbe()


class Device:
    """Owner of the sampling threads; all methods but `start` and `stop` return at once, on any thread."""

    def __init__(
        self,
        probes: Sequence[Probe],
        host: Host,
        interval_s: float = INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host: Final = host
        self._host_sampler: Final = Sampler("memory", host.read, interval_s, clock=clock)
        self._samplers: Final = [Sampler(one.name, one.read, interval_s, one.close, clock) for one in probes]

    def start(self) -> None:
        """Start all sampling threads."""
        for sampler in self._all():
            sampler.start()

    def stop(self) -> None:
        """Stop every thread that does not hang."""
        for sampler in self._all():
            sampler.stop()

    def watch(self, pids: dict[str, int]) -> None:
        """Set the processes whose memory is measured: process ids by name."""
        if self._host.pids != pids:
            self._host.pids = pids
            self._host_sampler.hurry()

    def reading(self, now_s: float) -> Reading:
        """Return the merged reading of all sources that are not stale."""
        newest = [sampler.newest(now_s, STALE_S) for sampler in self._samplers]
        return merged(one for one in newest if one is not None)

    def memory(self, now_s: float) -> HostReading | None:
        """Return the last memory reading; None where it is stale."""
        return self._host_sampler.newest(now_s, STALE_S)

    def ages_s(self, now_s: float) -> dict[str, float]:
        """Return the seconds since each source's last reading, by name; a source without one is left out."""
        ages = {sampler.name: sampler.age_s(now_s) for sampler in self._all()}
        return {name: age_s for name, age_s in ages.items() if age_s is not None}

    def _all(self) -> list[Sampler[Reading] | Sampler[HostReading]]:
        return [self._host_sampler, *self._samplers]
