"""Throughput of the whole agent, of the bare runtime on the same artifact, and of `YOLO.predict`, in turn."""

from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import median
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import started
from agent.bench.plant.models import Models
from agent.bench.plant.observer import Seen
from agent.bench.plant.warm_up import prepare
from agent.bench.reference.competitor import Competitor, competitor
from agent.inference.backends import artifact_key
from agent.messages.errors import TransientError
from agent.messages.references import ModelVersion

SETTINGS: Final = (("LATENCY", 1), ("LATENCY", 2), ("THROUGHPUT", 1), ("THROUGHPUT", 2))
_SETTLE_S: Final = 1.0
_BUDGET: Final = "2GiB"
_OTHERS: Final = {"ultralytics": "{}_openvino_model", "torch": "{}.pt"}


def measure(models: Models, folder: Path, name: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Return frames a second of each competitor by round, and medians of the rounds' ratios.

    In each round each competitor has the machine alone for `seconds`, which the runtime splits among its settings; the
    setting with the best median counts.
    """
    plant = Plant(folder / "plant", models, (Station("1", 0, name),), _BUDGET)
    prepare(plant.write(port=1), [models[name].reference])
    rates: dict[str, list[float]] = {}
    threads = 0
    with ExitStack() as undo:
        runtime = undo.enter_context(forward(plant, name))
        others = _others(undo, models, folder, name)
        for number in range(rounds):
            say(f"speed of {name}: round {number + 1} of {rounds}")
            rates.setdefault("agent", []).append(agent_frames_per_s(plant, seconds))
            for hint, requests in SETTINGS:
                found = runtime.ask(hint, requests, seconds / len(SETTINGS))
                rates.setdefault(f"forward {hint.lower()} {requests}", []).append(found["frames_per_s"])
            for other, one in others.items():
                found = one.ask(seconds)
                rates.setdefault(other, []).append(found["frames_per_s"])
                threads = found["torch_threads"]
    figures = _figures(rates, threads)
    say(f"frames a second with {name}: {figures['frames_per_s']}")
    return figures


def forward(plant: Plant, name: str) -> AbstractContextManager[Competitor]:
    """Run the bare runtime on the artifact that was prepared for a plant."""
    model = plant.models[name]
    version = ModelVersion(f"part-{name}", model.size, "1", str(model.onnx), model.sha256)
    key = artifact_key(version, "auto")
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


def _others(undo: ExitStack, models: Models, folder: Path, name: str) -> dict[str, Competitor]:
    if models.folder is None:
        return {}
    return {
        other: undo.enter_context(
            competitor(
                "agent.bench.reference.predict",
                folder / f"{other}.log",
                models.folder / file.format(models[name].size),
                models.imgsz,
            )
        )
        for other, file in _OTHERS.items()
    }


def _figures(rates: dict[str, list[float]], threads: int) -> dict[str, Any]:
    best = max((name for name in rates if name.startswith("forward")), key=lambda name: median(rates[name]))
    against = {"vs_forward": best, "vs_ultralytics": "ultralytics", "vs_torch": "torch"}
    ratios = {
        figure: median(ours / theirs for ours, theirs in zip(rates["agent"], rates[other], strict=True))
        for figure, other in against.items()
        if other in rates
    }
    medians = {name: median(values) for name, values in rates.items()}
    said = {"best_forward": best.removeprefix("forward "), "torch_threads": threads, "rect": True}
    return {**ratios, "forwards_per_s": medians[best], "frames_per_s": medians, "rounds": rates, **said}
