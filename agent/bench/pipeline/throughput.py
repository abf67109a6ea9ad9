"""Throughput of the whole agent, of the bare runtime on the same artifact, and of `YOLO.predict`, in turn."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import median
from agent.bench.pipeline.pairing import Contestant, as_run, ratio
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import started
from agent.bench.plant.models import Models
from agent.bench.plant.observer import Seen
from agent.bench.plant.warm_up import precision_of, prepare_models
from agent.bench.reference.competitor import Competitor, competitor
from agent.inference.backends import artifact_key
from agent.messages.errors import TransientError

SETTINGS: Final = (("LATENCY", 1), ("LATENCY", 2), ("THROUGHPUT", 1), ("THROUGHPUT", 2))
_SETTLE_S: Final = 1.0
_BUDGET: Final = "2GiB"
_TORCHS_OWN: Final = "f32"
_RIVALS: Final = ("ultralytics", "torch")
READY_S: Final = 0.2
"""Length of a first, uncounted measurement, because a competitor's libraries are imported until its first answer."""


def measure(  # noqa: PLR0913 - one measurement, spelt out
    models: Models, folder: Path, name: str, rounds: int, seconds: float, *, against: Sequence[str] = _RIVALS
) -> dict[str, Any]:
    """Return frames a second of each contestant by round, and medians of the rounds' ratios.

    In each round each contestant has the machine alone for `seconds`, which the runtime splits among its settings; the
    setting with the best median counts. All compute in the precision of the agent's artifact, and `torch as run` in the
    one that `YOLO.predict` chooses. `against`: the contestants beside the bare runtime.
    """
    plant = Plant(folder / "plant", models, (Station("1", 0, name),), _BUDGET)
    prepare_models(plant, [name])
    precision = precision_of(plant, name)
    agent = Contestant("agent", precision)
    runtimes: dict[str, Contestant] = {}
    others: dict[str, Contestant] = {}
    threads = 0
    with ExitStack() as undo:
        runtime = undo.enter_context(forward(plant, name))
        processes = _others(undo, models, folder, name, precision, against)
        runtime.ask(*SETTINGS[0], READY_S)
        for one in processes.values():
            one.ask(READY_S)
        for number in range(rounds):
            say(f"speed of {name}: round {number + 1} of {rounds}")
            agent.frames_per_s.append(agent_frames_per_s(plant, seconds))
            forwards(runtime, runtimes, seconds)
            for other, one in processes.items():
                found = one.ask(seconds)
                _take(others, other, found)
                threads = found["torch_threads"]
    figures = _figures(agent, runtimes, others) | {"torch_threads": threads, "rect": True}
    say(f"frames a second with {name}: {figures['frames_per_s']}")
    return figures


def forwards(runtime: Competitor, contestants: dict[str, Contestant], seconds: float) -> None:
    """Add a round of the bare runtime to `contestants`: each of its settings for its part of `seconds`."""
    for hint, requests in SETTINGS:
        found = runtime.ask(hint, requests, seconds / len(SETTINGS))
        _take(contestants, f"forward {hint.lower()} {requests}", found)


def best_of(runtimes: dict[str, Contestant]) -> Contestant:
    """Return the one with the best median."""
    return max(runtimes.values(), key=lambda one: median(one.frames_per_s))


def _take(contestants: dict[str, Contestant], name: str, found: dict[str, Any]) -> None:
    one = contestants.setdefault(name, Contestant(name, found["precision"]))
    one.frames_per_s.append(found["frames_per_s"])


def forward(plant: Plant, name: str) -> AbstractContextManager[Competitor]:
    """Run the bare runtime on the artifact that was prepared for a plant."""
    key = artifact_key(plant.models[name].version, "auto")
    if key is None:
        raise TransientError("there is no artifact to compare with: the benchmark needs OpenVINO")
    log = plant.folder / "forward.log"
    return competitor("agent.bench.pipeline.forward", log, plant.cache_dir, key)


def agent_frames_per_s(plant: Plant, seconds: float) -> float:
    """Run the agent on an unpaced source; return the rate of detections at its broker."""
    with started(plant) as device:
        device.during(_SETTLE_S)
        marks = {stream: len(frames) for stream, frames in device.observer.frames.items()}
        device.during(seconds)
        return sum(rate(frames[marks[stream] :]) for stream, frames in device.observer.frames.items())


def rate(frames: list[Seen]) -> float:
    """Return frames a second, by times of arrival."""
    return (len(frames) - 1) / (frames[-1].at_s - frames[0].at_s) if len(frames) > 1 else 0.0


def _others(  # noqa: PLR0913, PLR0917 - the contestants of one measurement, spelt out
    undo: ExitStack, models: Models, folder: Path, name: str, precision: str, against: Sequence[str]
) -> dict[str, Competitor]:
    if models.folder is None:
        return {}
    model = models[name]
    openvino, torch = models.folder / f"{model.rival}_openvino_model", models.folder / f"{model.rival}.pt"
    asked = {"ultralytics": (openvino, precision), "torch": (torch, precision)}
    if precision != _TORCHS_OWN:
        asked["torch as run"] = (torch, _TORCHS_OWN)
    return {
        other: undo.enter_context(
            competitor("agent.bench.reference.predict", folder / f"{other}.log", file, models.imgsz, of, model.task)
        )
        for other, (file, of) in asked.items()
        if other.partition(" ")[0] in against
    }


def _figures(agent: Contestant, runtimes: dict[str, Contestant], others: dict[str, Contestant]) -> dict[str, Any]:
    every = (agent, *runtimes.values(), *others.values())
    medians = {one.name: median(one.frames_per_s) for one in every}
    best = best_of(runtimes)
    against = {"forward": best, "ultralytics": others.get("ultralytics"), "torch": others.get("torch")}
    ratios = {f"vs_{name}": ratio(agent, other) for name, other in against.items() if other is not None}
    own = others.get("torch as run") or others.get("torch")
    return {
        **ratios,
        **({"vs_torch_as_run": as_run(agent, own)} if own is not None else {}),
        "precision": {"agent": agent.precision, "forward": best.precision}
        | {name: one.precision for name, one in others.items()},
        "forwards_per_s": medians[best.name],
        "best_forward": best.name.removeprefix("forward "),
        "frames_per_s": medians,
        "rounds": {one.name: one.frames_per_s for one in every},
    }
