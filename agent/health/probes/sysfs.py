"""Probe for the kernel's files: thermal zones, cooling devices, GPU load, power monitors and board name.

Enough for a Jetson without jetson-stats, and for most devices. Written from the kernel's documents (thermal/sysfs-api,
hwmon/sysfs-interface, devfreq) and NVIDIA's; the Jetson parts are not tested on hardware.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent.health.probes import plausible
from agent.health.sensors.reading import Reading, Zone
from agent.power_mode import power_mode

_TOTALS: Final = ("VDD_IN", "POM_5V_IN")
"""Names of the rail that feeds all others; without it, the total power is the sum of all rails."""
_POWER_MONITORS: Final = ("ina3221", "ina226", "ina238", "ina219")
_GPUS: Final = frozenset({"gp10b", "gv11b", "ga10b", "gb10b"})
_NO_SLOWING: Final = re.compile(r"fan|lcd|backlight|display|tcc offset", re.IGNORECASE)
_ENDING: Final = re.compile(r"[-_]therm(al)?$")
_BELOW_CRITICAL_C: Final = 10.0
_JETPACKS: Final = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}
"""Major version of JetPack by that of L4T."""


class SysfsProbe:
    """Reader of files below `root`, which only tests change; it keeps no file open."""

    def __init__(self, root: Path = Path("/")) -> None:
        self.name: Final = "sysfs"
        self._root: Final = root

    def read(self) -> Reading:
        """Return all readable values; missing files and zones without a temperature are left out."""
        rails = dict(self._rails())
        total = next((rails.pop(name) for name in _TOTALS if name in rails), None)
        return Reading(
            source="sysfs",
            board=self._board(),
            system=self._system(),
            power_mode=power_mode(self._root),
            zones=dict(self._zones()),
            rails_w=rails,
            power_w=total if total is not None else (round(sum(rails.values()), 3) if rails else None),
            gpu_load=max(self._gpu_loads(), default=None),
            slowed=self._slowed(),
        )

    def close(self) -> None:
        """Do nothing, because nothing is held open."""

    def _board(self) -> str:
        model = _text(self._root / "proc/device-tree/model")
        dmi = self._root / "sys/class/dmi/id"
        return model or " ".join(filter(None, [_text(dmi / "sys_vendor"), _text(dmi / "product_name")]))

    def _system(self) -> str:
        """Return the L4T release from a line such as `# R36 (release), REVISION: 4.7, ...`; empty without one."""
        match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(self._root / "etc/nv_tegra_release"))
        if match is None:
            return ""
        jetpack = _JETPACKS.get(int(match[1]))
        return f"L4T {match[1]}.{match[2]}" + (f", JetPack {jetpack}" if jetpack else "")

    def _zones(self) -> Iterator[tuple[str, Zone]]:
        for folder in self._each("sys/class/thermal", "thermal_zone*"):
            celsius = plausible.celsius(_scaled(folder / "temp", 1000))
            name = _ENDING.sub("", _text(folder / "type"))
            if celsius is not None and name:
                yield name, Zone(celsius, _limit_c(folder))

    def _slowed(self) -> tuple[str, ...] | None:
        """Return the cooling devices that are active, without fans and displays; None where there are no others."""
        found = [
            (_text(one / "type"), _scaled(one / "cur_state")) for one in self._each("sys/class/thermal", "cooling_*")
        ]
        slowing = [(kind, state) for kind, state in found if not _NO_SLOWING.search(kind)]
        return tuple(dict.fromkeys(kind for kind, state in slowing if state and state > 0)) if slowing else None

    def _gpu_loads(self) -> Iterator[float]:
        """Yield the load of each integrated GPU from 0 to 1; its driver gives tenths of a percent."""
        for folder in self._each("sys/class/devfreq", "*"):
            name = _text(folder / "device/of_node/name").lower()
            load = _scaled(folder / "device/load", 1000)
            if (name in _GPUS or "gpu" in name) and (share := plausible.share(load)) is not None:
                yield share

    def _rails(self) -> Iterator[tuple[str, float]]:
        for folder in self._each("sys/class/hwmon", "hwmon*"):
            if _text(folder / "name").startswith(_POWER_MONITORS):
                yield from _monitored(folder)

    def _each(self, folder: str, pattern: str) -> list[Path]:
        return sorted((self._root / folder).glob(pattern))


def _monitored(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield name and watts of each rail of a power monitor, from its power files or from voltage times current."""
    for path in sorted(folder.glob("power*_input")):
        label = _text(folder / path.name.replace("_input", "_label")) or _text(folder / "name")
        if (power_w := plausible.watts(_scaled(path, 1e6))) is not None:
            yield label, power_w
    for path in sorted(folder.glob("in*_label")):
        label, channel = _text(path), path.name.removeprefix("in").removesuffix("_label")
        volts, amperes = _scaled(folder / f"in{channel}_input", 1000), _scaled(folder / f"curr{channel}_input", 1000)
        # Skips "NC" (not connected), and the sum of shunt voltages, which has a label but no current.
        if "NC" not in label and volts is not None and amperes is not None:
            power_w = plausible.watts(volts * amperes)
            if power_w is not None:
                yield label, round(power_w, 3)


def _limit_c(folder: Path) -> float | None:
    """Return a zone's throttling temperature in °C; None where it is unknown.

    It is the lowest passive trip point, else the lowest hot one, else 10 °C below the critical one.
    """
    trips: dict[str, list[float]] = {}
    for path in folder.glob("trip_point_*_type"):
        limit = plausible.limit_c(_scaled(folder / path.name.replace("_type", "_temp"), 1000))
        if limit is not None:
            trips.setdefault(_text(path), []).append(limit)
    if "passive" in trips or "hot" in trips:
        return min(trips.get("passive") or trips["hot"])
    return min(trips["critical"]) - _BELOW_CRITICAL_C if "critical" in trips else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").rstrip("\0\n ").lstrip()
    except OSError:
        return ""


def _scaled(path: Path, divisor: float = 1) -> float | None:
    try:
        return float(_text(path)) / divisor
    except ValueError:
        return None
