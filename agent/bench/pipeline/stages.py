"""Time of a frame by stage, for one stream and for many, and latency of paced streams."""

import os
import signal
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
from prometheus_client.parser import text_string_to_metric_families

from agent.bench.figures import curve, median, percentile, spread
from agent.bench.pipeline.pairing import Contestant, ratio
from agent.bench.pipeline.throughput import READY_S, SETTINGS, agent_frames_per_s, best_of, forward, forwards, rate
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import free_port, runs, say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models
from agent.bench.plant.observer import Seen, gaps
from agent.bench.plant.warm_up import precision_of, prepare_models
from agent.bench.reference.competitor import Competitor

_SETTLE_S: Final = 2.0
_BUDGET: Final = "2GiB"
_CAMERA: Final = "agent.capture.camera_process"
_STAGE_TOTAL: Final = "changeover_frame_stage_seconds_total"
_STOOD: Final = 1.3  # periods that a camera stands before it goes on in its turn: its grid of due times starts anew


@dataclass(frozen=True)
class Scene:
    """One model on one line, measured for `seconds`."""

    models: Models
    folder: Path
    """Keeps the prepared artifact from measurement to measurement."""
    name: str
    seconds: float

    def plant(self, fps: float, cameras: int, http_port: int = 0) -> Plant:
        """Return a plant with `cameras` streams at `fps`."""
        return Plant(self.folder, self.models, (Station("1", fps, self.name, cameras=cameras),), _BUDGET, http_port)


def by_streams(scene: Scene, counts: tuple[int, ...]) -> dict[str, Any]:
    """Return mean stage times in ms and the rate, by number of unpaced streams."""
    found = {}
    for count in counts:
        say(f"stages of {count} streams")
        plant = scene.plant(0, count, free_port())
        with started(plant) as device:
            device.during(_SETTLE_S)
            marks, before_s = _marks(device), _stages_s(plant.http_port)
            device.during(scene.seconds)
            after_s = _stages_s(plant.http_port)
            windows = _windows(device, marks)
        frames = sum(len(window) for window in windows)
        rates = [rate(window) for window in windows]
        found[str(count)] = {
            "stages_ms": {stage: (after_s[stage] - before_s[stage]) * 1000 / frames for stage in after_s},
            "frames_per_s": sum(rates),
            "slowest_over_fastest": min(rates) / max(rates),
            "frames": frames,
        }
    return found


def by_count(scene: Scene, counts: tuple[int, ...], rounds: int) -> dict[str, Any]:
    """Return the rate of so many unpaced streams together, over the first count's and over the best bare forward's.

    All take turns in each round, as in `throughput.measure`; the ratios are medians of the rounds', by count.
    """
    plants = {count: scene.plant(0, count) for count in counts}
    first = plants[counts[0]]
    prepare_models(first, [scene.name])
    precision = precision_of(first, scene.name)
    agents = {count: Contestant(f"agent {count}", precision) for count in counts}
    runtimes: dict[str, Contestant] = {}
    with forward(first, scene.name) as runtime:
        runtime.ask(*SETTINGS[0], READY_S)
        for number in range(rounds):
            say(f"streams at {scene.models.imgsz} pixels: round {number + 1} of {rounds}")
            for count, plant in plants.items():
                agents[count].frames_per_s.append(agent_frames_per_s(plant, scene.seconds))
            forwards(runtime, runtimes, scene.seconds)
    best, one = best_of(runtimes), agents[counts[0]]
    return {
        "imgsz": scene.models.imgsz,
        "precision": {"agent": precision, "forward": best.precision},
        "vs_first": {str(count): ratio(agent, one) for count, agent in agents.items()},
        "vs_forward": {str(count): ratio(agent, best) for count, agent in agents.items()},
        "best_forward": best.name,
        "rounds": {one.name: one.frames_per_s for one in (*agents.values(), *runtimes.values())},
    }


def paced(scene: Scene, cameras: int, fps: float) -> dict[str, Any]:
    """Return the inferred share and the latency of `cameras` streams at `fps` whose frames are evenly staggered."""
    say(f"{cameras} streams at {fps:.2f} fps")
    with started(scene.plant(fps, cameras)) as device:
        device.during(_SETTLE_S)
        _stagger(device, 1 / fps)
        device.during(_SETTLE_S)
        marks = _marks(device)
        device.during(scene.seconds)
        windows = _windows(device, marks)
    counted = [gaps(window) for window in windows]
    offered, missing = sum(one.offered for one in counted), sum(one.missing for one in counted)
    latencies = [one.latency_ms for window in windows for one in window]
    return {
        "streams": cameras,
        "fps": fps,
        "offered": offered,
        "inferred_share": 1 - missing / offered if offered else 0.0,
        "latency_ms": spread(latencies) | {"curve": curve(latencies)},
    }


def beyond_forward(scene: Scene, fps: float, rounds: int, runtime: Competitor) -> dict[str, Any]:
    """Return the latency of one stream at `fps` beyond that of a bare forward at the same pace.

    In each round the median forward is subtracted from the round's percentiles; the medians over rounds count.
    """
    ours: list[list[float]] = []
    theirs: list[list[float]] = []
    for number in range(rounds):
        say(f"latency at {fps:g} fps: round {number + 1} of {rounds}")
        with started(scene.plant(fps, 1)) as device:
            device.during(_SETTLE_S)
            marks = _marks(device)
            device.during(scene.seconds)
            ours.append([one.latency_ms for window in _windows(device, marks) for one in window])
        theirs.append(runtime.ask("paced", fps, scene.seconds)["took_ms"])

    def beyond(share: float, of_forward: float) -> float:
        pairs = zip(ours, theirs, strict=True)
        return median(percentile(one, share) - percentile(other, of_forward) for one, other in pairs)

    return {
        "fps": fps,
        "beyond_ms": {"p50": beyond(50, 50), "p99": beyond(99, 50)},
        "p99_beyond_forwards_p99_ms": beyond(99, 99),
        "latency_ms": spread([one for window in ours for one in window]),
        "forward_ms": spread([one for window in theirs for one in window]),
    }


def _marks(device: Device) -> dict[str, int]:
    return {stream: len(frames) for stream, frames in device.observer.frames.items()}


def _windows(device: Device, marks: dict[str, int]) -> list[list[Seen]]:
    return [frames[marks[stream] :] for stream, frames in device.observer.frames.items()]


def _stages_s(port: int) -> dict[str, float]:
    """Return the total time by stage, from the agent's metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == _STAGE_TOTAL:
                stage = sample.labels["stage"]
                totals[stage] = totals.get(stage, 0.0) + sample.value
    return totals


def _stagger(device: Device, period_s: float) -> None:
    """Stagger the cameras' frames evenly, by pausing each camera until its own phase."""
    cameras = [one for one in psutil.Process(device.pid).children() if runs(one, _CAMERA)]
    for number, camera in enumerate(cameras):
        os.kill(camera.pid, signal.SIGSTOP)
        now_s = time.monotonic()
        earliest_s = now_s + _STOOD * period_s
        wanted_s = number * period_s / len(cameras)
        left_s = (wanted_s - earliest_s) % period_s
        time.sleep(earliest_s + left_s - time.monotonic())
        os.kill(camera.pid, signal.SIGCONT)
