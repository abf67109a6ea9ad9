"""File access rules by Landlock, which kernels since 5.13 have where it was built in."""

import ctypes
import os
import struct
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from agent.processes.walls import kernel

# Numbers of linux/landlock.h.
_VERSION: Final = 1
_PATH_BENEATH: Final = 1
_EXECUTE: Final = 1 << 0
_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_FOLDER: Final = 1 << 3
_REMOVE_FILE: Final = 1 << 5
_REMOVE: Final = 1 << 4 | _REMOVE_FILE
_MAKE: Final = 1 << 8  # files; no folders, devices, sockets, pipes or links
_MAKE_OTHERS: Final = 1 << 6 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12
_TRUNCATE: Final = 1 << 14
_TRUNCATES_SINCE: Final = 3


class _Place:
    """A descriptor that names a path without opening it for reading or writing (O_PATH)."""

    def __init__(self, path: Path) -> None:
        self.number: Final = os.open(path, os.O_PATH | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.number)


def version() -> int:
    """Return the version of the kernel's Landlock; 0 where the kernel has none."""
    with suppress(OSError):
        return kernel.call("landlock_create_ruleset", None, 0, _VERSION)
    return 0


def restrict(
    folder: Path | None, readable: Iterable[Path], devices: Iterable[Path] = (), *, may_replace: bool = False
) -> None:
    """Limit this thread and its descendants: they write beneath `folder` only, and read there and beneath `readable`.

    They read and write the files `devices` too.

    They may execute no program, and remove or rename no file, because a removed file that is still open escapes the
    count of the folder's bytes; with `may_replace` they may within `folder`. They may create no folder, because files
    in it would escape that count, too. Raises OSError.
    """
    truncate = _TRUNCATE if version() >= _TRUNCATES_SINCE else 0  # before, the filter in `syscalls` refuses truncation
    read, write = _READ_FILE | _READ_FOLDER, _WRITE_FILE | _MAKE | truncate
    handled = struct.pack("=Q", _EXECUTE | read | write | _REMOVE | _MAKE_OTHERS)
    rules = kernel.call("landlock_create_ruleset", ctypes.c_char_p(handled), len(handled), 0)
    try:
        own = read | write | (_REMOVE_FILE if may_replace else 0)
        if folder is not None:
            _allow(rules, folder, own)
        _allow(rules, Path("/dev/null"), _READ_FILE | _WRITE_FILE | truncate)
        for path in devices:
            _allow(rules, path, read | _WRITE_FILE if path.is_dir() else _READ_FILE | _WRITE_FILE)
        for path in readable:
            with suppress(FileNotFoundError):
                _allow(rules, path, read if path.is_dir() else _READ_FILE)
        kernel.call("landlock_restrict_self", rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path, rights: int) -> None:
    with closing(_Place(path)) as place:
        rule = ctypes.c_char_p(struct.pack("=Qi", rights, place.number))
        kernel.call("landlock_add_rule", rules, _PATH_BENEATH, rule, 0)
