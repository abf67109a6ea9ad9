"""Latency of a paced line (yolo11n at half its full speed) while another line loads a yolo11x."""

import time
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import curve, median, percentile, spread
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models
from agent.bench.plant.observer import Seen, gaps
from agent.bench.plant.warm_up import measure_footprints
from agent.messages.payloads import Switch

_FULL_SPEED_S: Final = 6.0
_STEADY_S: Final = 3.0
_SETTLE_S: Final = 0.7
_HARDLY_EVER_FPS: Final = 0.001
_SHARE: Final = 0.5  # of full speed


def measure(models: Models, folder: Path, names: tuple[str, str, str], repeats: int) -> dict[str, Any]:
    """Return the latency of a paced line during loads, over that of the steady phases just before them.

    `names` are the paced line's model, and a smaller and a large one of another line, which rarely gets a frame. Before
    each load the other line changes to the smaller model, which evicts the large one; a nano is too small for that once
    its footprint is corrected.
    """
    paced, small, large = names
    fps = full_speed(models, folder / "full", paced) * _SHARE
    stations = (Station("1", round(fps, 1), paced), Station("2", _HARDLY_EVER_FPS, large, stalls=False))
    plant = Plant(folder / "paced", models, stations, "")
    footprints = measure_footprints(plant, names)
    budget = footprints[paced] + footprints[large] + min(footprints[large], footprints[small]) // 2
    steady: list[list[Seen]] = []
    loading: list[list[Seen]] = []
    loads_ms: list[float] = []
    with started(replace(plant, budget=str(budget))) as device:
        device.until(lambda: "line-2" in device.observer.ready, "the other line")
        device.bring("line-2", large)
        for number in range(repeats):
            say(f"loading beside a paced line: {number + 1} of {repeats}")
            device.report_of("line-2", small)
            device.during(_SETTLE_S)
            steady.append(_window(device, _STEADY_S))
            before, asked_s = len(device.observer.frames["cam-1"]), time.monotonic()
            reported_s, report = device.report_of("line-2", large)
            loads_ms.append((reported_s - asked_s) * 1000)
            during = device.observer.frames["cam-1"][max(0, before - 1) :]
            loading.append([one for one in during if one.at_s <= reported_s])
            assert _is_cold(report), f"{large} was {report.residency}: nothing was loaded"
        wrong = device.observer.wrong_model
    return _figures(steady, loading, loads_ms) | {"paced_fps": fps, "wrong_model": wrong}


def _is_cold(report: Switch) -> bool:
    return report.residency == "cold"


def full_speed(models: Models, folder: Path, name: str) -> float:
    """Return the agent's frames a second with a model and an unpaced source."""
    say("how fast the paced line could go")
    with started(Plant(folder, models, (Station("1", 0, name),), "2GiB")) as device:
        device.during(_SETTLE_S)
        frames = _window(device, _FULL_SPEED_S)
    return (len(frames) - 1) / (frames[-1].at_s - frames[0].at_s)


def _window(device: Device, seconds: float) -> list[Seen]:
    mark = len(device.observer.frames["cam-1"])
    device.during(seconds)
    return device.observer.frames["cam-1"][mark:]


def _figures(steady: list[list[Seen]], loading: list[list[Seen]], loads_ms: list[float]) -> dict[str, Any]:
    calm, busy = _latencies(steady), _latencies(loading)
    all_calm, all_busy = list(chain(*calm)), list(chain(*busy))
    return {
        "p50_during_load": median(percentile(b, 50) / percentile(c, 50) for c, b in zip(calm, busy, strict=True)),
        "p99_during_load": percentile(all_busy, 99) / percentile(all_calm, 99),
        "steady_ms": spread(all_calm) | {"curve": curve(all_calm)},
        "loading_ms": spread(all_busy) | {"curve": curve(all_busy)},
        "load_ms": median(loads_ms),
        "frames_lost": sum(gaps(window).missing for window in loading),
        "frames_missing_steady": sum(gaps(window).missing for window in steady),
        "repeats": len(loads_ms),
    }


def _latencies(windows: list[list[Seen]]) -> list[list[float]]:
    return [[one.latency_ms for one in window] for window in windows]
