"""Memory budget for resident models."""

import logging
from typing import Final

from agent.health.sensors.available_memory import available_bytes
from agent.health.sensors.gpu_memory import free_device_bytes
from agent.settings import Settings

_log: Final = logging.getLogger(__name__)
_MIB: Final = 1 << 20
PROCESSES_BYTES: Final = 256 * _MIB
"""Memory of control and of the worker without models: Python, runtime, kernels, threads."""
CAMERA_BYTES: Final = 96 * _MIB
"""Memory of one camera process with its slot."""
GPU_CONTEXT_BYTES: Final = 512 * _MIB
"""Memory of a CUDA context with its kernels, on a discrete GPU."""
SPARE_SHARE: Final = 0.1
"""Share kept free of what is available: peaks during a load, and other programs."""
LEAST_SHARE: Final = 0.25
"""Least share of what is available, so that a small device can still run a small model."""


def auto_bytes(available: int, own_bytes: int) -> int:
    """Return the budget for `auto`: available bytes, less `own_bytes` and the spare share."""
    return int(max(available * LEAST_SHARE, available * (1.0 - SPARE_SHARE) - own_bytes))


def decide(settings: Settings) -> int:
    """Return the budget in bytes from the memory available now, before worker and cameras start."""
    device = settings.device
    device_bytes = free_device_bytes(device.compute)
    if device_bytes is None:
        available, own_bytes = available_bytes(), PROCESSES_BYTES + CAMERA_BYTES * len(settings.stream)
    else:
        available, own_bytes = device_bytes, GPU_CONTEXT_BYTES
    budget_bytes = device.memory_budget.resolve(available, auto_bytes(available, own_bytes))
    memory = "shared" if device_bytes is None else "gpu"
    _log.info(
        "event=budget bytes=%d setting=%s memory=%s available_bytes=%d",
        budget_bytes,
        device.memory_budget,
        memory,
        available,
    )
    return budget_bytes
