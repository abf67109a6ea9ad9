"""Parent-death signal for subprocesses that must not outlive their starter."""

import ctypes
import os
import shutil
from collections.abc import Sequence
from typing import Final

_PDEATHSIG: Final = 1  # PR_SET_PDEATHSIG of prctl(2)
_SIGKILL: Final = 9


def ending_with_us(command: Sequence[str], signal: str = "KILL") -> list[str]:
    """Return `command` extended so that the kernel sends `signal` when the starting thread ends (prctl(2)).

    Uses setpriv of util-linux, which every Debian has; without it, `command` is returned unchanged.
    """
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", signal, "--", *command] if program else [*command]


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent thread ends, or now where process `parent` has ended.

    Raises OSError where the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PDEATHSIG, ctypes.c_ulong(_SIGKILL), *(ctypes.c_ulong(0) for _ in range(3))):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if os.getppid() != parent:
        os._exit(1)
