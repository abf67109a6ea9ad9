"""System calls that Python's standard library lacks."""

import ctypes
import os
from functools import cache
from typing import Final

_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION: Final = 0x20080522
_SECCOMP: Final = "libseccomp.so.2"  # of every Debian and Ubuntu: apt and systemd need it
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


@cache
def seccomp() -> ctypes.CDLL:
    """Load libseccomp, which maps names of system calls to the processor's numbers. Raises OSError."""
    library = ctypes.CDLL(_SECCOMP)
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def number_of(name: str) -> int | None:
    """Return this processor's number of a system call; None where the processor or libseccomp lacks the call."""
    number = int(seccomp().seccomp_syscall_resolve_name(name.encode()))
    return number if number >= 0 else None  # libseccomp has negative ones for calls of other processors


def call(name: str, *arguments: object) -> int:
    """Make a system call by its name. Raises OSError."""
    number = number_of(name)
    if number is None:
        raise OSError(f"libseccomp knows no {name}")
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_wide, arguments)))


def control(option: int, *arguments: object) -> int:
    """Call prctl. Raises OSError."""
    wide = [*map(_wide, arguments), *(ctypes.c_ulong(0) for _ in range(4 - len(arguments)))]
    return _checked(_libc.prctl(ctypes.c_int(option), *wide))


def give_up_rights(kept: int = 0) -> None:
    """Drop every capability but those of the mask `kept` for good; programs that are executed gain none either."""
    control(_NO_NEW_PRIVS, 1)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    held = (ctypes.c_uint32 * 6)()
    _checked(_libc.capget(ctypes.byref(header), ctypes.byref(held)))
    if any(held):  # a service without any may be forbidden the very call
        left = (ctypes.c_uint32 * 6)(held[0] & kept, held[1] & kept)  # effective, permitted; inheritable none
        _checked(_libc.capset(ctypes.byref(header), ctypes.byref(left)))


def _wide(argument: object) -> object:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
