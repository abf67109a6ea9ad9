"""`changeover bench memory`: memory of all the agent's processes, and accuracy of its ledger."""

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import median, percentile
from agent.bench.memory.ledger_watch import LedgerWatch, Load, returned_shares, transients
from agent.bench.memory.process_memory import Probe, family_probe, pss_bytes, worker_probe
from agent.bench.options import Options
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import family_of, say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import SIZES, Models, ensure
from agent.bench.plant.warm_up import measure_footprints, precisions
from agent.bench.reference.manager_client import reference

_FPS: Final = 2.0  # the largest takes a third of a second a frame
_SETTLE_S: Final = 1.0
_MARGIN: Final = 0.05  # of the largest model
_MIB: Final = 1 << 20
_SMALL_MISS_BYTES: Final = 8 * _MIB
_FIRST_LOADS: Final = 3  # of each model: kernels compiled in them stay, and belong to the runtime
_CHECKPOINTS: Final = 10
_LONGEST_S: Final = 330.0
_SEED: Final = 9
_STEP_S: Final = 0.5


def run(options: Options) -> dict[str, Any]:
    """Measure five sizes in turn in a budget for the largest, the reference manager with all five, and the drift."""
    models = ensure(options.models_dir, precision=options.precision)
    plant = Plant(options.folder / "memory", models, (Station("1", _FPS, "n"),), "")
    footprints = measure_footprints(plant, SIZES)
    largest = max(footprints.values())
    plant = replace(plant, budget=str(int(largest * (1 + _MARGIN))))
    pairs = []
    for number in range(1 if options.quick else 2):
        say(f"memory: pair {number + 1}")
        pairs.append(
            (measure_in_turn(plant, SIZES, 2 if options.quick else 3), all_resident(models, options.folder, SIZES))
        )
    drift = measure_drift(plant, options.swaps)
    peaks = [ours["peak_pss_bytes"] for ours, _ in pairs]
    theirs = [other for _, other in pairs]
    return {
        "precision": precisions(plant, SIZES),
        **pairs[-1][0],
        "vs_all_resident": median(peak / other for peak, other in zip(peaks, theirs, strict=True)),
        "peak_pss_bytes": median(peaks),
        "all_resident_pss_bytes": median(theirs),
        "budget_bytes": int(plant.budget),
        "footprints": footprints,
        **drift,
    }


@dataclass
class _Watched:
    device: Device
    ledger: LedgerWatch
    family: Probe
    worker: Probe


def _watch(undo: ExitStack, plant: Plant) -> _Watched:
    device = undo.enter_context(started(plant))
    ledger = LedgerWatch()
    device.observer.on_cache = ledger.take
    family = undo.enter_context(family_probe(device.pid).running())
    worker = undo.enter_context(worker_probe(device.worker_pid()).running())
    return _Watched(device, ledger, family, worker)


def measure_in_turn(plant: Plant, names: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Activate every size in turn, round after round; return the memory figures since the first, a warm-up."""
    with ExitStack() as undo:
        watched = _watch(undo, plant)
        device = watched.device
        device.during(_SETTLE_S)
        parts = _parts(device)
        begun_s = time.monotonic()
        bases: list[int] = []
        for number in range(rounds):
            if number == 1:
                bases = []
            for name in names[1:] + names[:1]:
                device.change_over("line-1", name)
                device.during(_SETTLE_S)
                bases.append(_base(watched))
            if number == 0:
                begun_s = time.monotonic()
        device.during(_SETTLE_S)
        return parts | _figures(watched, begun_s, int(median(bases)), int(plant.budget))


def _base(watched: _Watched) -> int:
    """Return the worker's memory without its models."""
    cache = watched.device.observer.cache
    assert cache is not None, "models came"
    return int(median(watched.worker.last(_SETTLE_S / 2))) - cache.used_bytes


def _figures(watched: _Watched, begun_s: float, base_bytes: int, budget_bytes: int) -> dict[str, Any]:
    ended_s = time.monotonic()
    held = watched.worker.between(begun_s, ended_s)
    shares = returned_shares(watched.ledger, begun_s, watched.worker)
    over = [max(0, rss - base_bytes - budget_bytes) for rss in held]
    return {
        "pss_over_time": _over_time(watched.family),
        "peak_pss_bytes": max(one.bytes for one in watched.family.readings),
        "worker_base_bytes": base_bytes,
        "returned": median(shares),
        "returned_least": min(shares, default=float("nan")),
        "releases": len(shares),
        "over_budget_bytes_max": max(over, default=0),
        "over_budget_share_of_time": sum(one > 0 for one in over) / max(1, len(over)),
        "transient_bytes_max": max(transients(watched.ledger.loads, watched.worker), default=0),
        "samples": len(held),
        "charged_over_budget_bytes_max": max(0, max(used for _, used in watched.ledger.used) - budget_bytes),
        "prediction": {
            "from_second_load": _prediction(watched.ledger.after_load(2)),
            "from_third_load": _prediction(watched.ledger.after_load(3)),
        },
    }


def _over_time(probe: Probe) -> list[tuple[float, int]]:
    """Return the largest reading of each half second, for a plot: pairs of seconds and bytes."""
    begun_s = probe.readings[0].at_s
    steps: dict[int, int] = {}
    for one in probe.readings:
        step = int((one.at_s - begun_s) / _STEP_S)
        steps[step] = max(one.bytes, steps.get(step, 0))
    return [(step * _STEP_S, held) for step, held in steps.items()]


def _prediction(loads: list[Load]) -> dict[str, Any]:
    """Return errors of predictions; a miss is off by more than a tenth and more than 8 MiB."""
    errors = [one.error for one in loads]
    misses = [
        one
        for one in loads
        if one.error > 0.1 and abs(one.measured_bytes - one.predicted_bytes) > _SMALL_MISS_BYTES  # noqa: PLR2004 - said above
    ]
    return {
        "loads": len(loads),
        "error_p50": median(errors),
        "error_max": max(errors, default=float("nan")),
        "misses": len(misses),
    }


def _parts(device: Device) -> dict[str, int]:
    """Return the PSS of each kind of process, with one nano active."""
    parts = {"control_bytes": pss_bytes(device.pid), "worker_bytes": pss_bytes(device.worker_pid())}
    others = [one.pid for one in family_of(device.pid) if one.pid not in {device.pid, device.worker_pid()}]
    return parts | {"camera_bytes": sum(pss_bytes(pid) for pid in others)}


def all_resident(models: Models, folder: Path, sizes: tuple[str, ...]) -> int:
    """Return the settled PSS of the reference manager with every size loaded and used."""
    with reference(models, folder / "reference.log", most=len(sizes)) as manager:
        for _ in range(2):
            for size in sizes:
                manager.swap_ms(size)
        with family_probe(manager.pid).running() as probe:
            time.sleep(_SETTLE_S)
        return int(median(one.bytes for one in probe.readings))


def measure_drift(plant: Plant, swaps: int) -> dict[str, Any]:
    """Swap at random among small sizes, and measure repeatedly in the same state: the largest model alone."""
    with ExitStack() as undo:
        watched = _watch(undo, plant)
        first_loads = [_load_all(watched) for _ in range(_FIRST_LOADS)]
        looks = list(_looks(watched, swaps))
        wrong = watched.device.observer.wrong_model
        residency = [str(one.residency) for _, one in watched.device.observer.switches]
    held = [bytes_ for _, bytes_ in looks]
    return {
        "drift_bytes": held[-1] - held[0],
        "drift_swaps": looks[-1][0] - looks[0][0],
        "drift_readings_bytes": held,
        "first_loads_readings_bytes": first_loads,
        "drift_residency": {kind: residency.count(kind) for kind in sorted(set(residency))},
        "wrong_model": wrong,
    }


def _load_all(watched: _Watched) -> int:
    """Load every size, the largest last; return the memory of all processes then."""
    for name in SIZES:
        watched.device.bring("line-1", name)
    watched.device.during(_SETTLE_S)
    return _held(watched)


def _held(watched: _Watched) -> int:
    return int(percentile(watched.family.last(_SETTLE_S / 2), 50))


def _looks(watched: _Watched, swaps: int) -> Iterator[tuple[int, int]]:
    """Yield pairs of swaps done and memory of all processes with the largest model alone."""
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    device, every = watched.device, max(1, swaps // _CHECKPOINTS)
    done, before, end_s = 0, "x", time.monotonic() + _LONGEST_S
    while True:
        if before != "x":
            device.report_of("line-1", "x")
            done += 1
        device.during(_SETTLE_S)
        yield done, _held(watched)
        if done >= swaps or time.monotonic() > end_s:
            return
        say(f"drift: {done} of {swaps} swaps")
        for _ in range(min(every, swaps - done)):
            before = chance.choice([one for one in ("n", "s", "m") if one != before])
            device.report_of("line-1", before)
            done += 1
