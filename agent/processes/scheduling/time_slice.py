"""Time slice of a process's threads: how long another thread that wakes up may have to wait for one of them."""

import ctypes
import logging
from typing import Final

from agent.processes.walls import kernel

SHORTEST_NS: Final = 100_000
"""The kernel takes nothing shorter, and 0.7 to 2.8 ms by default."""
_log: Final = logging.getLogger(__name__)


class _Attributes(ctypes.Structure):
    """`struct sched_attr` of sched_setattr(2), in its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("policy", ctypes.c_uint32),
        ("flags", ctypes.c_uint64),
        ("nice", ctypes.c_int32),
        ("priority", ctypes.c_uint32),
        ("slice_ns", ctypes.c_uint64),
        ("deadline_ns", ctypes.c_uint64),
        ("period_ns", ctypes.c_uint64),
    )


def shorten() -> None:
    """Give the calling thread the shortest slice, and with it the threads and processes that it starts from now on.

    Their share of the processor stays the same. Linux before 6.12 ignores it; a refusal is logged.
    """
    try:
        attributes = _of_this_thread()
        attributes.slice_ns = SHORTEST_NS
        kernel.call("sched_setattr", 0, ctypes.byref(attributes), 0)
    except OSError as error:
        _log.info("event=slice_not_set detail=%r", str(error))


def present_ns() -> int:
    """Return the calling thread's slice in ns; 0 where the kernel tells none. Raises OSError."""
    return int(_of_this_thread().slice_ns)


def _of_this_thread() -> _Attributes:
    attributes = _Attributes()
    kernel.call("sched_getattr", 0, ctypes.byref(attributes), ctypes.sizeof(attributes), 0)
    return attributes
