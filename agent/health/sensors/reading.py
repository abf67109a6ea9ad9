"""What a device measures of itself at one moment, whatever it was measured by."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Zone:
    """One temperature in °C; `limit_c` is where the device begins to slow itself down, None where nobody knows."""

    celsius: float
    limit_c: float | None = None


@dataclass(frozen=True)
class Reading:
    """A probe fills in what its source can tell, and leaves the rest as it stands here.

    `source` names who said it. `system` is what the maker calls the system ("L4T 36.4.7, JetPack 6.2.1"). `power_w` is
    all that the source can see: a Jetson's whole module, a PC's graphics cards. `gpu_load` is a share, 0 to 1.
    `slowed` names what is being held down now; None: the source cannot tell. A `fallback` names no zone or rail beside
    those of others, since it would be the same ones by other names.
    """

    source: str
    board: str = ""
    system: str = ""
    power_mode: str = ""
    zones: Mapping[str, Zone] = field(default_factory=dict)
    rails_w: Mapping[str, float] = field(default_factory=dict)
    power_w: float | None = None
    gpu_load: float | None = None
    slowed: tuple[str, ...] | None = None
    fallback: bool = False


def merged(readings: Iterable[Reading]) -> Reading:
    """Return one reading of several, the best source first: each value from the first that has it."""
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
        slowed=slowed,
    )


def _zones(better: Reading, other: Reading) -> Mapping[str, Zone]:
    if other.fallback and better.zones:
        return better.zones
    both = {**other.zones, **better.zones}
    return {name: Zone(zone.celsius, zone.limit_c or _limit(other, name)) for name, zone in both.items()}


def _limit(reading: Reading, name: str) -> float | None:
    return reading.zones[name].limit_c if name in reading.zones else None
