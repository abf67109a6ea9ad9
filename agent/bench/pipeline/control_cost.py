"""CPU time of control for each published detection, measured with models that take hardly any."""

from pathlib import Path
from typing import Any, Final

from agent.bench.plant.bench_plant import Plant, Station
from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models

_SETTLE_S: Final = 3.0
_BUDGET: Final = "1GiB"
_HARDLY_EVER_FPS: Final = 0.2
SCENES: Final = {"45": (3, 15.0), "200": (8, 25.0)}
"""Measured message rates, as pairs of streams and frames a second."""


def measure(models: Models, folder: Path, name: str, seconds: float) -> dict[str, Any]:
    """Return CPU time a message in ms, by message rate: in all, and beyond an idle agent's."""
    idle_s, _ = _taken(models, folder / "idle", Station("1", _HARDLY_EVER_FPS, name, stalls=False), seconds)
    found: dict[str, Any] = {"idle_ms_per_s": idle_s * 1000 / seconds}
    for rate, (cameras, fps) in SCENES.items():
        taken_s, messages = _taken(models, folder / rate, Station("1", fps, name, cameras=cameras), seconds)
        found[rate] = {
            "ms_per_message": taken_s * 1000 / messages,
            "beyond_idle_ms_per_message": (taken_s - idle_s) * 1000 / messages,
            "messages_per_s": messages / seconds,
        }
    return found


def _taken(models: Models, folder: Path, station: Station, seconds: float) -> tuple[float, int]:
    """Return control's CPU time, and the number of detections that arrived meanwhile."""
    say(f"control's part: {station.cameras} streams at {station.fps:g} fps")
    with started(Plant(folder, models, (station,), _BUDGET)) as device:
        device.during(_SETTLE_S)
        before_s, count = cpu_s(device.pid), _count(device)
        device.during(seconds)
        return cpu_s(device.pid) - before_s, _count(device) - count


def _count(device: Device) -> int:
    return sum(len(frames) for frames in device.observer.frames.values())


def cpu_s(pid: int) -> float:
    """Return the CPU time of all threads of a process, from the scheduler, which is finer than clock ticks."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9
