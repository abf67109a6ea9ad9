"""Times swaps to models that are not in memory: the agent's and the reference manager's, in alternate rounds."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import median, spread
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models
from agent.bench.plant.warm_up import measure_footprints, precisions
from agent.bench.reference.manager_client import Kind, reference
from agent.bench.swap.resident_swaps import FPS

_HOME: Final = "n"
_CYCLES: Final = 2  # per round
_SETTLE_S: Final = 0.7
_VARIANTS: Final[tuple[Kind, ...]] = ("openvino", "onnx")


@dataclass
class _Times:
    """Times by size in ms: the agent's, and the reference manager's by kind of file."""

    agent: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    reference: dict[Kind, dict[str, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    loads_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Duration of the agent's loads with their checks, by size."""
    ratios: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    lost: int = 0
    wrong: int = 0
    not_cold: int = 0
    blind_ms: list[float] = field(default_factory=list)


def measure(models: Models, folder: Path, targets: dict[str, str], rounds: int) -> dict[str, Any]:
    """Return the figures of cold swaps from a nano at 15 fps to each of `targets` (model by size).

    A round has some cycles of the agent, then as many of the reference manager, each with the machine to itself. The
    budget holds the nano and the largest model only, so the largest evicts all others.
    """
    plant = Plant(folder, models, (Station("1", FPS, _HOME),), "")
    footprints = measure_footprints(plant, list(dict.fromkeys([_HOME, *targets.values()])))
    plant = replace(plant, budget=str(tight_budget(footprints, _HOME, targets)))
    times = _Times()
    for number in range(rounds):
        say(f"cold swaps: round {number + 1} of {rounds}")
        before = {size: len(times.agent[size]) for size in targets}
        _agents_cycles(plant, targets, times)
        theirs = _references_cycles(models, folder, targets, "pt", times)
        for size in targets:
            times.ratios[size].append(median(times.agent[size][before[size] :]) / median(theirs[size]))
    for kind in _VARIANTS:
        say(f"cold swaps: the reference manager on {kind} files")
        _references_cycles(models, folder, targets, kind, times)
    return _figures(times, targets) | {"budget": plant.budget, "precision": precisions(plant, targets.values())}


def measure_paced(
    models: Models, folder: Path, targets: dict[str, str], fps: float, demanded: dict[str, Any]
) -> dict[str, Any]:
    """Return the figures of the same swaps from a nano at a lower `fps`, which leaves CPU time for loads.

    `demanded` are the figures of `measure` in the same folder, with its budget and the reference manager's times.
    """
    say(f"cold swaps from a nano at {fps:.1f} fps")
    plant = Plant(folder, models, (Station("1", round(fps, 1), _HOME),), demanded["budget"])
    times = _Times()
    _agents_cycles(plant, targets, times)
    ours = {size: median(times.agent[size]) for size in targets}
    ratios = {size: ours[size] / demanded["reference_ms"]["pt"][size] for size in targets}
    return {
        "fps": fps,
        "by_model": ours,
        "loads_s": {size: median(times.loads_s[size]) for size in targets},
        "vs_article": median(ratios.values()),
        "vs_article_by_model": ratios,
        "frames_lost": times.lost,
        "wrong_model": times.wrong,
        "not_cold": times.not_cold,
    }


def tight_budget(footprints: dict[str, int], home: str, targets: dict[str, str]) -> int:
    """Return bytes for `home`, the largest model, and half of the smallest."""
    sizes = [footprints[name] for name in targets.values()]
    return footprints[home] + max(sizes) + min(sizes) // 2


def _agents_cycles(plant: Plant, targets: dict[str, str], times: _Times) -> None:
    with started(plant) as device:
        device.during(_SETTLE_S)
        for _ in range(_CYCLES):
            _agents_cycle(device, targets, times)
        times.wrong += device.observer.wrong_model


def _agents_cycle(device: Device, targets: dict[str, str], times: _Times) -> None:
    for size, name in targets.items():
        done = device.change_over("line-1", name)
        if done.report.residency == "cold":
            times.agent[size].append(done.to_first_ms)
            times.loads_s[size].append((done.report.load_ms + done.report.warmup_ms) / 1000)
        else:
            times.not_cold += 1
        times.lost += done.report.frames_lost
        times.blind_ms.append(done.report.blind_ms)
        device.during(_SETTLE_S)
        device.change_over("line-1", _HOME)
        device.during(_SETTLE_S)


def _references_cycles(
    models: Models, folder: Path, targets: dict[str, str], kind: Kind, times: _Times
) -> dict[str, list[float]]:
    """Swap the reference manager, limited to one model, from a nano to each size and back; return the times."""
    found: dict[str, list[float]] = defaultdict(list)
    with reference(models, folder / "reference.log", most=1) as manager:
        manager.swap_ms(_HOME, kind)
        for _ in range(_CYCLES):
            for size in targets:
                if size == _HOME:
                    manager.swap_ms(next(one for one in targets if one != _HOME), kind)
                found[size].append(manager.swap_ms(size, kind))
                if size != _HOME:
                    manager.swap_ms(_HOME, kind)
    for size, values in found.items():
        times.reference[kind][size] += values
    return found


def _figures(times: _Times, targets: dict[str, str]) -> dict[str, Any]:
    ratios = {size: median(times.ratios[size]) for size in targets}
    every = [one for size in targets for one in times.agent[size]]
    others = {kind: {size: median(by_size[size]) for size in targets} for kind, by_size in times.reference.items()}
    ours = {size: median(times.agent[size]) for size in targets}
    return {
        "command_to_first_frame_ms": spread(every) | {"by_model": ours},
        "reference_ms": others,
        "vs_article": median(ratios.values()),
        "vs_article_by_model": ratios,
        "vs_article_on": {
            kind: median(ours[size] / by_size[size] for size in targets)
            for kind, by_size in others.items()
            if kind != "pt"
        },
        "frames_lost": times.lost,
        "blind_ms_max": max(times.blind_ms, default=0.0),
        "wrong_model": times.wrong,
        "not_cold": times.not_cold,
    }
