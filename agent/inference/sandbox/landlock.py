"""Landlock: writing beneath one folder and nowhere else. The kernel has it from 5.13 on, where it was built in."""

import ctypes
import os
import struct
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from agent.inference.sandbox import kernel

# Numbers of linux/landlock.h; those of the calls are the same on every processor.
_CREATE, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_WRITE_FILE: Final = 1 << 1
_REMOVE: Final = 1 << 4 | 1 << 5
_MAKE: Final = 1 << 7 | 1 << 8  # folders and files; no devices, sockets, pipes or links
_MAKE_OTHERS: Final = 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_TRUNCATE: Final = 1 << 14
_TRUNCATES_SINCE: Final = 3


class _Folder:
    """A descriptor that only names a place."""

    def __init__(self, path: Path) -> None:
        self.number: Final = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.number)


def version() -> int:
    """Return the kernel's version of Landlock; 0 where it has none."""
    with suppress(OSError):
        return kernel.call(_CREATE, None, 0, _VERSION)
    return 0


def restrict_writes(folder: Path) -> None:
    """Let this thread, and all that it starts, write beneath `folder` and into /dev/null only. Raises OSError.

    Moving files into `folder` from elsewhere, or out of it, is refused too, and so are links.
    """
    truncate = _TRUNCATE if version() >= _TRUNCATES_SINCE else 0  # before it, `syscalls` refuses what could
    handled = struct.pack("=Q", _WRITE_FILE | _REMOVE | _MAKE | _MAKE_OTHERS | truncate)
    rules = kernel.call(_CREATE, ctypes.c_char_p(handled), len(handled), 0)
    try:
        _allow(rules, folder, _WRITE_FILE | _REMOVE | _MAKE | truncate)
        _allow(rules, Path("/dev/null"), _WRITE_FILE | truncate)
        kernel.call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    with closing(_Folder(path)) as place:
        kernel.call(_ADD_RULE, rules, _PATH_BENEATH, ctypes.c_char_p(struct.pack("=Qi", rights, place.number)), 0)
