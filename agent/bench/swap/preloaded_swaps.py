"""Preloads after a restart: time until all sizes are resident, the line's latency meanwhile, and swaps to them."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import median, percentile, spread
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models
from agent.bench.plant.observer import Seen, gaps
from agent.bench.plant.warm_up import measure_footprints
from agent.messages.payloads import Cache

_HOME: Final = "n"
_SETTLE_S: Final = 0.7
_STEADY_S: Final = 4.0
_SPARE: Final = 1.15  # of the sizes' footprints, because a few bytes of rounding must not keep the last one out


@dataclass
class _Restarts:
    """Measurements of some restarts of the agent."""

    resident_s: list[float] = field(default_factory=list)
    """From the line's first detection until all sizes were resident."""
    meanwhile: list[Seen] = field(default_factory=list)
    steady: list[Seen] = field(default_factory=list)
    missing: int = 0
    swaps: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Command to first detection in ms, by size."""
    lost: int = 0
    wrong: int = 0
    not_preloaded: int = 0


def measure(
    models: Models, folder: Path, targets: dict[str, str], paced: dict[str, Any], restarts: int
) -> dict[str, Any]:
    """Return the figures of `restarts` with a paced nano, in a budget for it and all `targets` (model by size).

    `paced` are the figures of `cold_swaps.measure_paced`: the line's fps, and the duration of each load. Only `targets`
    are configured, so that nothing else is preloaded.
    """
    only = replace(models, by_name={name: models[name] for name in dict.fromkeys([_HOME, *targets.values()])})
    plant = Plant(folder, only, (Station("1", round(paced["fps"], 1), _HOME),), "", preload=True)
    footprints = measure_footprints(replace(plant, preload=False), only.by_name)
    plant = replace(plant, budget=str(int(sum(footprints.values()) * _SPARE)))
    found = _Restarts()
    for number in range(restarts):
        say(f"preloads after a restart: {number + 1} of {restarts}")
        with started(plant) as device:
            _restart(device, plant, targets, found)
    loads_s = sum(paced["loads_s"][size] for size in targets)
    return _figures(found, loads_s) | {"budget": plant.budget, "fps": paced["fps"]}


def _restart(device: Device, plant: Plant, targets: dict[str, str], found: _Restarts) -> None:
    frames = device.observer.frames["cam-1"]
    began_s, wanted = frames[0].at_s, {plant.models[name].reference for name in targets.values()}
    arrivals: list[float] = []
    device.observer.on_cache = lambda at_s, _cache: arrivals.append(at_s)
    device.until(lambda: wanted <= _preloaded(device.observer.cache), "all sizes resident")
    ended_s = arrivals[-1] if arrivals else began_s
    found.resident_s.append(ended_s - began_s)
    meanwhile = [one for one in frames if began_s <= one.at_s <= ended_s]
    found.meanwhile += meanwhile
    found.missing += gaps(meanwhile).missing
    device.during(_SETTLE_S)
    mark = len(frames)
    device.during(_STEADY_S)
    found.steady += frames[mark:]
    for size, name in targets.items():
        found.not_preloaded += plant.models[name].reference not in _preloaded(device.observer.cache)
        done = device.change_over("line-1", name)
        found.swaps[size].append(done.to_first_ms)
        found.lost += done.report.frames_lost
        device.during(_SETTLE_S)
    device.bring("line-1", _HOME)  # because a restart resumes the last product
    found.wrong += device.observer.wrong_model


def _preloaded(cache: Cache | None) -> set[str]:
    return {one.model for one in cache.models if one.state == "preloaded"} if cache is not None else set()


def _figures(found: _Restarts, loads_s: float) -> dict[str, Any]:
    """Return the figures, beside the sum of the durations of loads of the same sizes that a line waits for."""
    meanwhile, steady = ([one.latency_ms for one in seen] for seen in (found.meanwhile, found.steady))
    return {
        "command_to_first_frame_ms": spread([one for times in found.swaps.values() for one in times])
        | {"by_model": {size: median(times) for size, times in found.swaps.items()}},
        "all_resident_s": spread(found.resident_s),
        "vs_sum_of_loads": median(found.resident_s) / loads_s,
        "p50_meanwhile": percentile(meanwhile, 50) / percentile(steady, 50),
        "p99_meanwhile": percentile(meanwhile, 99) / percentile(steady, 99),
        "meanwhile_ms": spread(meanwhile),
        "steady_ms": spread(steady),
        "frames_missing_meanwhile": found.missing,
        "frames_lost": found.lost,
        "wrong_model": found.wrong,
        "not_preloaded": found.not_preloaded,
    }
