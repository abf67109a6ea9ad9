"""Libraries and file trees that play what tests/health/recordings holds."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

RECORDINGS = Path(__file__).parents[1] / "health" / "recordings"
Said = dict[str, Any]


def recording(name: str) -> Said:
    found: Said = json.loads((RECORDINGS / f"{name}.json").read_text())
    return found


def lay_out(files: dict[str, str | None], root: Path) -> Path:
    """Write the files of a recorded sysfs below `root`; a null becomes a folder, whose reading fails as EIO would."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.mkdir()
        else:
            path.write_text(text)
    return root


class RecordedJtop:
    """A client of jetson-stats: started once, then `ok` says whether there is something new."""

    def __init__(self, said: Said) -> None:
        self.board: Said = said["board"]
        self.temperature: Said = said["temperature"]
        self.power: Said = said["power"]
        self.gpu: Said = said["gpu"]
        self.nvpmodel = SimpleNamespace(name=said["nvpmodel"]) if said["nvpmodel"] else None
        self.is_ok = True
        self.error: Exception | None = None
        self.started = 0
        self.closed = 0

    def start(self) -> None:
        self.started += 1

    def ok(self) -> bool:
        if self.error is not None:
            raise self.error
        return self.is_ok

    def close(self) -> None:
        self.closed += 1


class NVMLError(Exception):
    """As the library has it."""


class NoLibraryError(NVMLError):
    """As the library's NVMLError_LibraryNotFound."""


class RecordedNvml:
    """The module pynvml; what a recording lacks is not supported."""

    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVMLError = NVMLError
    NVMLError_LibraryNotFound = NoLibraryError
    _KEYS: ClassVar[dict[str, str]] = {
        "nvmlDeviceGetTemperature": "temperature",
        "nvmlDeviceGetTemperatureThreshold": "slowdown",
        "nvmlDeviceGetPowerUsage": "power_mw",
        "nvmlDeviceGetUtilizationRates": "load",
        "nvmlDeviceGetCurrentClocksEventReasons": "reasons",
        "nvmlDeviceGetMemoryInfo": "memory",
        "nvmlDeviceGetComputeRunningProcesses": "processes",
    }

    def __init__(self, said: Said, *, has_driver: bool = True) -> None:
        self.error: Exception | None = None
        self.running = 0
        self._has_driver = has_driver
        self._cards: list[dict[str, Any]] = said.get("cards", [])
        self._functions: dict[str, Callable[..., object]] = {
            "nvmlInit": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlSystemGetDriverVersion": lambda: said["driver"],
            "nvmlDeviceGetCount": self._count,
            "nvmlDeviceGetHandleByIndex": lambda index: self._cards[index],
        }

    def __getattr__(self, name: str) -> Callable[..., object]:
        if name in self._functions:
            return self._functions[name]
        if name not in self._KEYS:
            raise AttributeError(name)
        return lambda card, *_: self._of(card, self._KEYS[name])

    def _init(self) -> None:
        if not self._has_driver:
            raise NoLibraryError
        self.running += 1

    def _shutdown(self) -> None:
        self.running -= 1

    def _count(self) -> int:
        if self.error is not None:
            raise self.error
        return len(self._cards)

    @staticmethod
    def _of(card: dict[str, Any], key: str) -> object:
        if key not in card:
            raise NVMLError
        if key == "load":
            return SimpleNamespace(gpu=card[key], memory=0)
        if key == "memory":
            return SimpleNamespace(**card[key])
        if key == "processes":
            return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in card[key]]
        return card[key]
