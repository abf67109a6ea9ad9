"""Errors of the CUDA driver, and what happens when the GPU's context is broken for good."""

import logging
from collections.abc import Callable
from typing import Final

from agent.messages.errors import ChangeoverError

_LOG: Final = logging.getLogger(__name__)
OUT_OF_MEMORY: Final = 2
# After one of these, each further call of this process fails, whichever model it is for.
STICKY: Final = frozenset({214, 220, 221, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 720, 721})


class CudaError(Exception):
    """A call of the driver failed; the next one may succeed."""

    def __init__(self, function: str, code: int, name: str) -> None:
        super().__init__(f"{function}: CUDA error {code} ({name})")
        self.code: Final = code


class DeviceLostError(ChangeoverError):
    """The context of the GPU is broken: only a new process helps."""


_when_lost: list[Callable[[str], None]] = []


def when_lost(end: Callable[[str], None]) -> None:
    """Register `end`, to be called with a reason once the GPU's context is broken, on the thread that finds it so."""
    _when_lost[:] = [end]


def raised(function: str, code: int, name: str) -> Exception:
    """Return the exception for a driver's error code; where the context is broken, first call what `when_lost` got."""
    if code not in STICKY:
        return CudaError(function, code, name)
    words = f"{function}: CUDA error {code} ({name}): the GPU's context is broken, and a new worker is needed"
    _LOG.error("event=device_lost function=%s code=%d name=%s", function, code, name)
    for end in _when_lost:
        end(words)
    return DeviceLostError(words)
