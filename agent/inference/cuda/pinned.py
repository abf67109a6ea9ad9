"""Host memory that the GPU reads and writes by itself, as NumPy arrays."""

import ctypes
import logging
import weakref
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.cuda.device import Device

_LOG: Final = logging.getLogger(__name__)


def pinned(device: Device, size_bytes: int) -> NDArray[np.uint8]:
    """Return a new array in pinned memory, uint8 (size_bytes,); freed with the last view of it."""
    device.enter()
    address = device.driver.allocate_pinned(size_bytes)
    kind: Any = type("_Block", (ctypes.c_uint8 * size_bytes,), {})  # of its own, because only such can be watched
    block = kind.from_address(address)
    weakref.finalize(block, _free, device, address).atexit = False
    return np.frombuffer(block, np.uint8)


def _free(device: Device, address: int) -> None:
    try:
        device.enter()
        device.driver.free_pinned(address)
    except Exception as error:  # noqa: BLE001 - nothing may be raised here, and a broken context is told elsewhere
        _LOG.warning("event=pinned_memory_not_freed error=%r", error)
