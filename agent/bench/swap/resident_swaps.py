"""Resident swaps between two models of one size, on a line at 15 fps."""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any, Final

from agent.bench.figures import curve, median, percentile, spread
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Changeover, Device, started
from agent.bench.plant.models import Models
from agent.bench.plant.observer import Seen, gaps

FPS: Final = 15.0
PERIOD_MS: Final = 1000 / FPS
_BUDGET: Final = "2GiB"
_SETTLE_S: Final = 3.0
_SEED: Final = 3
_LONGEST_S: Final = 330.0
_DEFAULT_SHARE: Final = 5  # of the swaps are asked of a broker with its defaults


def measure(models: Models, folder: Path, pair: tuple[str, str], swaps: int) -> dict[str, Any]:
    """Return the figures of resident swaps, with `set_tcp_nodelay` in mosquitto and without."""
    plant = Plant(folder, models, (Station("1", FPS, pair[0]),), _BUDGET)
    with started(plant) as device:
        figures = _figures(device, list(_swap(device, plant, pair, swaps, _LONGEST_S)))
    with started(replace(plant), nodelay=False) as device:
        done = list(_swap(device, plant, pair, max(1, swaps // _DEFAULT_SHARE), _LONGEST_S / _DEFAULT_SHARE))
        other = _figures(device, done)
    figures["command_to_ready_ms"] = {
        "set_tcp_nodelay": figures["command_to_ready_ms"],
        "mosquitto_defaults": other["command_to_ready_ms"],
    }
    figures["mosquitto_defaults"] = other
    return figures


def _swap(device: Device, plant: Plant, pair: tuple[str, str], swaps: int, longest_s: float) -> Iterator[Changeover]:
    """Load both models, then swap them at random moments."""
    line = plant.stations[0].line
    for name in (pair[1], pair[0]):
        device.bring(line, name)
    device.during(_SETTLE_S)
    chance = random.Random(_SEED)  # noqa: S311 - no secret
    end_s = time.monotonic() + longest_s
    for number, name in zip(range(swaps), cycle((pair[1], pair[0])), strict=False):
        if time.monotonic() > end_s:
            say(f"resident swaps: time is over after {number} of {swaps}")
            return
        if number % 100 == 0:
            say(f"resident swaps: {number} of {swaps}")
        yield device.change_over(line, name)
        device.during(chance.uniform(0.02, 0.02 + PERIOD_MS / 1000))


def _figures(device: Device, done: list[Changeover]) -> dict[str, Any]:
    """Return the figures; `beyond` is the rest after one frame period and the median inference."""
    frames = device.observer.frames["cam-1"]
    begun_s = done[0].asked_s
    swapping = [one for one in frames if one.at_s >= begun_s]
    inference_ms = median(one.latency_ms for one in swapping)
    first = [one.to_first_ms for one in done]
    ready = [one.to_ready_ms for one in done]
    missing = gaps(swapping).missing
    return {
        "swaps": len(done),
        "residency": _count(done),
        "command_to_first_frame_ms": spread(first)
        | {"beyond": _beyond(first, PERIOD_MS + inference_ms), "curve": curve(first)},
        "command_to_ready_ms": spread(ready)
        | {
            "beyond_inference": _beyond(ready, inference_ms),
            "beyond": _beyond(ready, PERIOD_MS + inference_ms),
            "curve": curve(ready),
        },
        "frame_period_ms": PERIOD_MS,
        "inference_ms": inference_ms,
        "frames_lost": lost(done, frames),
        "frames_lost_reported": sum(one.report.frames_lost for one in done),
        "frames_missing": missing,
        "wrong_model": device.observer.wrong_model,
        "frames": len(swapping),
    }


def _beyond(values: list[float], allowed_ms: float) -> dict[str, float]:
    return {"p50": percentile(values, 50) - allowed_ms, "p99": percentile(values, 99) - allowed_ms}


def _count(done: list[Changeover]) -> dict[str, int]:
    kinds = [str(one.report.residency) for one in done]
    return {kind: kinds.count(kind) for kind in sorted(set(kinds))}


def lost(done: list[Changeover], frames: list[Seen]) -> int:
    """Count frames without detections between a request and the new model's first, beyond the steady rate.

    Counted by the PLC from frame numbers; the steady rate is that outside of swaps.
    """
    begun_s, ended_s = done[0].asked_s, done[-1].first.at_s
    everywhere = gaps([one for one in frames if begun_s <= one.at_s <= ended_s])
    inside = sum(one.missing for one in done)
    offered = sum(_offered(one, frames) for one in done)
    outside = everywhere.offered - offered
    steady = max(0, everywhere.missing - inside) / outside if outside > 0 else 0.0
    return max(0, inside - round(steady * offered))


def _offered(one: Changeover, frames: list[Seen]) -> int:
    before = [seen.frame for seen in frames if seen.at_s < one.asked_s]
    return one.first.frame - before[-1] if before else 0
