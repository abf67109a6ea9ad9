"""Probe for NVIDIA GPUs by NVML (nvidia-ml-py); optional, and not tested on hardware."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from agent.health.probes import ProbeAbsentError, plausible
from agent.health.sensors.reading import GpuMemory, Reading, Zone

_log: Final = logging.getLogger(__name__)
_REASONS: Final = {0x04: "power", 0x08: "hardware", 0x20: "heat", 0x40: "heat", 0x80: "power"}
"""Causes of throttling, by their bits in nvmlDeviceGetCurrentClocksEventReasons (nvml.h)."""


class NvmlProbe:
    """Reader of all GPUs, which initialises the library at first use and after an error."""

    def __init__(self, load: Callable[[], Any] | None = None) -> None:
        """Store the loader of the module `pynvml`; None loads the installed one."""
        self.name: Final = "nvml"
        self._load: Final = load or _library
        self._library: Any = None

    def read(self) -> Reading:
        """Read every GPU; raises the library's NVMLError where NVML itself fails."""
        try:
            return _reading(self._open())
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Shut the library down."""
        library, self._library = self._library, None
        if library is not None:
            with suppress(library.NVMLError):
                library.nvmlShutdown()

    def _open(self) -> Any:  # noqa: ANN401 - the library has no types
        if self._library is None:
            library = self._load()
            try:
                library.nvmlInit()
            except library.NVMLError_LibraryNotFound:
                raise ProbeAbsentError("this device has no NVIDIA driver with NVML") from None
            self._library = library
        return self._library


def _library() -> Any:  # noqa: ANN401 - the library has no types
    try:
        import pynvml  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ProbeAbsentError(f"nvidia-ml-py is not installed: {error}") from None
    return pynvml


def _reading(nvml: Any) -> Reading:  # noqa: ANN401 - the library has no types
    zones, rails, loads, slowed = {}, {}, [], []
    memories = []
    for index in range(nvml.nvmlDeviceGetCount()):
        name = f"gpu{index}" if index else "gpu"
        card = _Card(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
        if (zone := card.zone()) is not None:
            zones[name] = zone
        if (power_w := card.power_w()) is not None:
            rails[name] = power_w
        loads.append(card.load())
        if (memory := card.memory()) is not None:
            memories.append(memory)
        slowed += [f"{name}: {reason}" for reason in card.slowed()]
    known = [load for load in loads if load is not None]
    return Reading(
        source="nvml",
        system=_driver(nvml),
        zones=zones,
        rails_w=rails,
        power_w=round(sum(rails.values()), 3) if rails else None,
        gpu_load=max(known, default=None),
        gpu=_together(memories),
        slowed=tuple(dict.fromkeys(slowed)),
    )


def _together(memories: list[GpuMemory]) -> GpuMemory | None:
    if not memories:
        return None
    processes: Counter[int] = Counter()
    for memory in memories:
        processes.update(memory.processes)
    return GpuMemory(
        sum(memory.free_bytes for memory in memories), sum(memory.total_bytes for memory in memories), dict(processes)
    )


def _driver(nvml: Any) -> str:  # noqa: ANN401 - the library has no types
    version = nvml.nvmlSystemGetDriverVersion()
    return f"NVIDIA driver {version.decode() if isinstance(version, bytes) else version}"


class _Card:
    """One GPU; unsupported values (many on a Jetson) are None."""

    def __init__(self, nvml: Any, handle: Any) -> None:  # noqa: ANN401 - the library has no types
        self._nvml: Final = nvml
        self._handle: Final = handle

    def zone(self) -> Zone | None:
        # Both, because the second is deprecated since NVML 13, and the first is unknown before.
        asked = ("nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature")
        answers = (self._ask(function, self._nvml.NVML_TEMPERATURE_GPU) for function in asked)
        celsius = plausible.celsius(next((one for one in answers if one is not None), None))
        threshold = self._ask("nvmlDeviceGetTemperatureThreshold", self._nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
        return Zone(celsius, plausible.limit_c(threshold)) if celsius is not None else None

    def power_w(self) -> float | None:
        """Return the GPU's power in W."""
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        return plausible.watts(milliwatts / 1000) if milliwatts is not None else None

    def load(self) -> float | None:
        """Return the GPU's load from 0 to 1: the share of the last period in which a kernel ran."""
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return plausible.share(rates.gpu / 100) if rates is not None else None

    def memory(self) -> GpuMemory | None:
        """Return the card's own memory; None on a Jetson, where CPU and GPU share memory."""
        told = self._ask("nvmlDeviceGetMemoryInfo")
        if told is None:
            return None
        running = self._ask("nvmlDeviceGetComputeRunningProcesses") or ()
        processes = {int(one.pid): int(one.usedGpuMemory) for one in running if one.usedGpuMemory}
        return GpuMemory(int(told.free), int(told.total), processes)

    def slowed(self) -> Iterator[str]:
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        yield from (word for bit, word in _REASONS.items() if reasons and reasons & bit)

    def _ask(self, function: str, *arguments: Any) -> Any:  # noqa: ANN401 - the library has no types
        try:
            return getattr(self._nvml, function)(self._handle, *arguments)
        except (self._nvml.NVMLError, AttributeError):
            return None
