"""`changeover bench recovery`: downtime of a line after a start or a crash, and memory of the processes."""

import os
import signal
import time
from typing import Any, Final

import psutil

from agent.bench.figures import median
from agent.bench.options import Options
from agent.bench.plant import warm_up
from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import runs, say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models, ensure
from agent.bench.plant.observer import gaps

_FPS: Final = 5.0
_PRODUCT: Final = "n"
_BUDGET: Final = "1GiB"
_SETTLE_S: Final = 6.0
_STEADY_S: Final = 2.0
_ROUNDS: Final = 5
_CAMERA: Final = "agent.capture.camera_process"
_WORKER: Final = "agent.inference.process"

Figures = dict[str, float]


def run(options: Options) -> dict[str, Any]:
    """Measure with a nano on two lines; each round starts an agent anew, so that no backoff has grown."""
    return measure(ensure(options.models_dir), options, 1 if options.quick else _ROUNDS)


def measure(models: Models, options: Options, rounds: int) -> dict[str, Any]:
    """Return median and maximum of each figure over all rounds; times in seconds, memory as PSS in bytes."""
    plant = Plant(
        options.folder / "recovery", models, (Station("1", _FPS, _PRODUCT), Station("2", _FPS, _PRODUCT)), _BUDGET
    )
    warm_up.prepare(plant.write(port=1), [models[_PRODUCT].reference])
    found: dict[str, list[float]] = {}
    for number in range(rounds):
        say(f"recovery: round {number + 1} of {rounds}")
        for name, value in _round(plant).items():
            found.setdefault(name, []).append(value)
    figures = {name: {"median": median(values), "max": max(values)} for name, values in found.items()}
    return {"rounds": rounds, **figures}


def _round(plant: Plant) -> Figures:
    with started(plant) as device:
        for station in plant.stations:
            device.bring(station.line, _PRODUCT)
        device.during(_SETTLE_S)
        figures = {"first_detections_s": device.start_s} | _memory(device)
        figures |= _named("worker_killed", _strike(device, _WORKER, signal.SIGKILL)[1])
        device.during(_STEADY_S)
        figures |= _named("camera_killed", _beside(device, signal.SIGKILL))
        device.during(_STEADY_S)
        figures |= _named("camera_frozen", _beside(device, signal.SIGSTOP))
        return figures | {"stopped_s": _stop(device)}


def _named(what: str, figures: Figures) -> Figures:
    return {f"{what}_{name}": value for name, value in figures.items()}


def _strike(device: Device, module: str, number: signal.Signals) -> tuple[str, Figures]:
    """Send a signal to a child process; return the first affected line, and the times until it recovered."""
    observer, mark = device.observer, len(device.observer.said_ready)
    pid = _child(device, module)
    began_s = time.monotonic()
    os.kill(pid, number)
    device.until(lambda: [one for one in observer.said_ready[mark:] if one[2] == "0"], "ready 0")
    zero_s, line, _ = next(one for one in observer.said_ready[mark:] if one[2] == "0")

    def again() -> list[float]:
        return [at_s for at_s, name, word in observer.said_ready[mark:] if (name, word) == (line, _PRODUCT)]

    def serving() -> list[float]:
        streams = observer.frames if module == _WORKER else [_stream_of(line)]
        firsts = [next((one.at_s for one in observer.frames[name] if one.at_s > zero_s), 0.0) for name in streams]
        return firsts if all(firsts) else []

    device.until(again, "ready again")
    device.until(serving, "detections again")
    return line, {
        "ready_0_s": zero_s - began_s,
        "serving_again_s": max(serving()) - began_s,
        "ready_again_s": again()[0] - began_s,
    }


def _beside(device: Device, number: signal.Signals) -> Figures:
    """Strike one line's camera; also count the frames that the other line missed meanwhile."""
    frames = device.observer.frames
    marks = {stream: max(0, len(seen) - 1) for stream, seen in frames.items()}
    line, figures = _strike(device, _CAMERA, number)
    others = [gaps(frames[stream][mark:]).missing for stream, mark in marks.items() if stream != _stream_of(line)]
    return figures | {"other_stream_missed": sum(others)}


def _stream_of(line: str) -> str:
    return f"cam-{line.removeprefix('line-')}"


def _child(device: Device, module: str) -> int:
    """Return the id of the oldest child process that runs a module."""
    children = psutil.Process(device.pid).children()
    found = [one for one in children if runs(one, module)]
    return min(found, key=lambda one: one.create_time()).pid


def _memory(device: Device) -> Figures:
    pids = {"control": device.pid, "worker": _child(device, _WORKER), "camera": _child(device, _CAMERA)}
    return {f"{name}_bytes": psutil.Process(pid).memory_full_info().pss for name, pid in pids.items()}


def _stop(device: Device) -> float:
    """Stop the agent as systemd does; return the time until it has ended."""
    agent = psutil.Process(device.pid)
    began_s = time.monotonic()
    agent.terminate()
    device.until(lambda: device.observer.status == "stopped", "stopped")
    while psutil.pid_exists(device.pid) and agent.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.005)
    return time.monotonic() - began_s
