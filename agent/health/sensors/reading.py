"""Readings of the device at one moment, from any source."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Zone:
    """Temperature of one zone in °C."""

    celsius: float
    limit_c: float | None = None
    """Temperature at which throttling begins; None where unknown."""


@dataclass(frozen=True)
class GpuMemory:
    """Memory of all GPUs that have their own, added up."""

    free_bytes: int
    total_bytes: int
    processes: Mapping[int, int] = field(default_factory=dict)
    """Bytes of each compute process on these GPUs, with its CUDA context, by process id."""


@dataclass(frozen=True)
class Reading:
    """Readings of one source, or merged ones; unknown values keep their defaults."""

    source: str
    """The source's name."""
    board: str = ""
    system: str = ""
    """The maker's name of the system, such as "L4T 36.4.7, JetPack 6.2.1"."""
    power_mode: str = ""
    zones: Mapping[str, Zone] = field(default_factory=dict)
    rails_w: Mapping[str, float] = field(default_factory=dict)
    power_w: float | None = None
    """Total power that the source sees: a Jetson's module, a PC's graphics cards."""
    gpu_load: float | None = None
    """Share of time from 0 to 1 in which the GPU is busy; None where unknown."""
    gpu: GpuMemory | None = None
    slowed: tuple[str, ...] | None = None
    """Parts that are throttled now; None where the source cannot tell."""
    fallback: bool = False
    """True: its zones count only where no better source has any, because they may be the same by other names."""


def merged(readings: Iterable[Reading]) -> Reading:
    """Merge readings, the best source first: each value comes from the first source that has it."""
    whole = Reading(source="")
    for one in readings:
        whole = _completed(whole, one) if whole.source else one
    return whole


def _completed(better: Reading, other: Reading) -> Reading:
    slowed = better.slowed if other.slowed is None else tuple(dict.fromkeys([*(better.slowed or ()), *other.slowed]))
    return Reading(
        source=f"{better.source}, {other.source}",
        board=better.board or other.board,
        system=better.system or other.system,
        power_mode=better.power_mode or other.power_mode,
        zones=_zones(better, other),
        rails_w=better.rails_w if better.power_w is not None else {**other.rails_w, **better.rails_w},
        power_w=better.power_w if better.power_w is not None else other.power_w,
        gpu_load=better.gpu_load if better.gpu_load is not None else other.gpu_load,
        gpu=better.gpu or other.gpu,
        slowed=slowed,
    )


def _zones(better: Reading, other: Reading) -> Mapping[str, Zone]:
    if other.fallback and better.zones:
        return better.zones
    both = {**other.zones, **better.zones}
    return {name: Zone(zone.celsius, zone.limit_c or _limit(other, name)) for name, zone in both.items()}


def _limit(reading: Reading, name: str) -> float | None:
    return reading.zones[name].limit_c if name in reading.zones else None
