"""Memory budget for resident models."""

import logging
import subprocess
from dataclasses import dataclass
from typing import Final

import msgspec

from agent import isolated
from agent.health.sensors.available_memory import available_bytes
from agent.health.sensors.gpu_memory import free_device_bytes, names_gpu
from agent.messages.short_lived.probe_results import ProbedCompute
from agent.processes.slots.request_memory import BLOCK_BYTES, BLOCKS, MOST_HELD_BYTES
from agent.settings import Settings

_log: Final = logging.getLogger(__name__)
_MIB: Final = 1 << 20
_FIRST_GPU: Final = "cuda:0"
PROCESSES_BYTES: Final = 256 * _MIB
"""Memory of control and of the worker without models: Python, runtime, kernels, threads."""
FURTHER_WORKER_BYTES: Final = 192 * _MIB
"""Memory of each further group's worker without models."""
CAMERA_BYTES: Final = 96 * _MIB
"""Memory of one camera process with its slot."""
WEB_BYTES: Final = 64 * _MIB
"""Memory of the web process at rest, with what it has imported. Decoding a picture takes more: decision 205."""
GPU_CONTEXT_BYTES: Final = 512 * _MIB
"""Memory of a CUDA context with its kernels, on a discrete GPU."""
SPARE_SHARE: Final = 0.1
"""Share of the available memory kept free for peaks during a load and for other programs."""
LEAST_SHARE: Final = 0.25
"""Least share of the available memory for models, so that a small device can still run a small model."""
_PROBE: Final = "agent.inference.processors.probe_process"
_PROBE_S: Final = 20.0
"""Longest wait for a CUDA driver, which takes a second or two where its card sleeps."""


def auto_bytes(available: int, own: int) -> int:
    """Return the automatic budget in bytes: `available` less `own` bytes and a spare share, but at least a quarter."""
    return int(max(available * LEAST_SHARE, available * (1.0 - SPARE_SHARE) - own))


def own_bytes(settings: Settings) -> int:
    """Return the memory of the agent's processes without models, and of requests under way, in bytes."""
    groups = len(settings.groups)
    own = PROCESSES_BYTES + CAMERA_BYTES * len(settings.stream) + FURTHER_WORKER_BYTES * (groups - 1)
    return own + beside_bytes(settings)


def beside_bytes(settings: Settings) -> int:
    """Return the memory of the web process and of requests under way, in bytes; 0 where `[web]` is off."""
    web = settings.web
    requests = (BLOCKS * BLOCK_BYTES + MOST_HELD_BYTES) * len(settings.groups) if web.gateway else 0
    return WEB_BYTES + requests if web.is_on else 0


@dataclass(frozen=True)
class Budgets:
    """Budget for models in bytes: of host memory, and of GPU memory or None where no GPU has its own."""

    host: int
    device: int | None = None
    models_in_device: bool = False
    """Models live in GPU memory, to which the setting `memory_budget` then applies."""

    @property
    def of_models(self) -> int:
        """The budget of the pool that models live in."""
        return self.device if self.models_in_device and self.device is not None else self.host


def decide(settings: Settings) -> Budgets:
    """Return the budgets from the memory available now, before worker and cameras start.

    The setting `memory_budget` applies to the pool that models live in; the other pool gets its automatic budget. Where
    a card has memory of its own, `compute = "auto"` is resolved by a process that asks its driver.
    """
    device, setting = settings.device, settings.device.memory_budget
    free_host_bytes = available_bytes()
    auto_host_bytes = auto_bytes(free_host_bytes, own_bytes(settings))
    free_bytes = free_device_bytes(_FIRST_GPU if device.compute == "auto" else device.compute)
    in_device = free_bytes is not None and names_gpu(_auto() if device.compute == "auto" else device.compute)
    if free_bytes is None:
        budgets = Budgets(setting.resolve(free_host_bytes, auto_host_bytes))
    else:
        auto_device_bytes = auto_bytes(free_bytes, GPU_CONTEXT_BYTES)
        if in_device:
            budgets = Budgets(auto_host_bytes, setting.resolve(free_bytes, auto_device_bytes), models_in_device=True)
        else:
            budgets = Budgets(setting.resolve(free_host_bytes, auto_host_bytes), auto_device_bytes)
    _log.info(
        "event=budget bytes=%d setting=%s memory=%s available_bytes=%d",
        budgets.of_models,
        setting,
        "gpu" if budgets.models_in_device else "shared",
        free_bytes if budgets.models_in_device else free_host_bytes,
    )
    return budgets


def _auto() -> str:
    """Return what `compute = "auto"` chooses; "cpu" where the driver crashes or does not answer."""
    try:
        command = isolated.command(_PROBE, "auto")
        said = subprocess.run(command, capture_output=True, check=True, timeout=_PROBE_S, cwd=isolated.FOLDER).stdout
        return msgspec.json.decode(said.splitlines()[-1], type=ProbedCompute).compute
    except (OSError, subprocess.SubprocessError, IndexError, msgspec.DecodeError) as error:
        _log.warning("event=compute_unknown detail=%r", str(error))
        return "cpu"
