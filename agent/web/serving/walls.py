"""Rights that the web process gives up before it serves anybody."""

import ctypes
import os
import resource
from contextlib import suppress
from typing import Final

from agent.processes import oom_score

_OOM_SCORE: Final = 750
"""Higher than the worker's, because lines need that and not this."""
_NICE: Final = 5
"""Pictures of requests are decoded here, and must not take the processor from frames."""
_DESCRIPTORS: Final = 1024
_NO_NEW_PRIVS, _DUMPABLE = 38, 4  # prctl(2)


def close_in() -> None:
    """Step behind the lines for processor and memory, and give up privileges, core dumps and being traced."""
    oom_score.raise_to(_OOM_SCORE)
    with suppress(OSError):
        os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, limit), limit))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_NO_NEW_PRIVS, 1), (_DUMPABLE, 0)):
        libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0) for _ in range(3)))
