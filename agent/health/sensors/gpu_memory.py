"""Free memory of a discrete NVIDIA GPU, from the driver's own library (NVML).

Bound by ctypes rather than by nvidia-ml-py, because that is an extra, and the budget must be right without it.

Written against NVIDIA's documentation and tested with a stand-in for the library, without a GPU.
"""

import ctypes
import logging
import re
from collections.abc import Callable
from typing import Any, Final

_log: Final = logging.getLogger(__name__)
_LIBRARY: Final = "libnvidia-ml.so.1"
_CUDA: Final = re.compile(r"(?:cuda|tensorrt)(?::(\d+))?")


class _Memory(ctypes.Structure):
    """`nvmlMemory_t`, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


def names_gpu(compute: str) -> bool:
    """Return True where the setting `compute` names an NVIDIA GPU, such as `cuda:0` or `tensorrt`."""
    return _CUDA.fullmatch(compute) is not None


def free_device_bytes(compute: str, open_library: Callable[[str], Any] = ctypes.CDLL) -> int | None:
    """Return the free memory of the GPU that `compute` names; None without dedicated memory.

    That is None for a CPU, and for a Jetson, where CPU and GPU share memory and NVML reports none.
    """
    match = _CUDA.fullmatch(compute)
    if match is None:
        return None
    try:
        library = open_library(_LIBRARY)
    except OSError:
        return None
    if library.nvmlInit_v2() != 0:
        return None
    try:
        return _free_bytes(library, int(match[1] or 0))
    finally:
        library.nvmlShutdown()


def _free_bytes(library: Any, index: int) -> int | None:  # noqa: ANN401 - a library's functions have no types
    device, memory = ctypes.c_void_p(), _Memory()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)) != 0:
        _log.warning("event=no_gpu index=%d", index)
        return None
    answer = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory))
    return int(memory.free) if answer == 0 else None
