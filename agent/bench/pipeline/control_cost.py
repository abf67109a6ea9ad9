"""What control takes of the processor for each detection that it publishes, with models that take hardly any."""

from pathlib import Path
from typing import Any, Final

from agent.bench.plant.children import say
from agent.bench.plant.device import Device, started
from agent.bench.plant.models import Models
from agent.bench.plant.plant import Plant, Station

_SETTLE_S: Final = 3.0
_BUDGET: Final = "1GiB"
_HARDLY_EVER_FPS: Final = 0.2
SCENES: Final = {"45": (3, 15.0), "200": (8, 25.0)}
"""Messages a second, as so many streams at such a rate."""


def measure(models: Models, folder: Path, name: str, seconds: float) -> dict[str, Any]:
    """Return ms of the processor for each message, by messages a second: in all, and beyond an agent without any."""
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
    """Return the processor's time of control, and how many detections arrived meanwhile."""
    say(f"control's part: {station.cameras} streams at {station.fps:g} fps")
    with started(Plant(folder, models, (station,), _BUDGET)) as device:
        device.during(_SETTLE_S)
        before_s, count = cpu_s(device.pid), _count(device)
        device.during(seconds)
        return cpu_s(device.pid) - before_s, _count(device) - count


def _count(device: Device) -> int:
    return sum(len(frames) for frames in device.witness.frames.values())


def cpu_s(pid: int) -> float:
    """Return what all threads of a process have had, by the scheduler's own count (finer than clock ticks)."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9
