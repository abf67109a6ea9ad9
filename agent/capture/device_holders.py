"""Processes that hold a device, as far as this user may see them."""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_NAMED: Final = 4


def holders_of(path: str) -> list[str]:
    """Return `NAME (process PID)` of other processes that hold the character device `path`, at most four.

    Processes of other users are seen by root alone, and by nobody behind ProtectProc=invisible.
    """
    try:
        device = Path(path).stat()
    except OSError:
        return []
    if not stat.S_ISCHR(device.st_mode):
        return []
    found = (pid for pid in _processes() if pid != os.getpid() and _holds(pid, device.st_rdev))
    return [f"{_name(pid)} (process {pid})" for pid in islice(found, _NAMED)]


def _processes() -> Iterator[int]:
    return (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def _holds(pid: int, number: int) -> bool:
    try:
        entries = list((_PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
    return any(_device_of(entry) == number for entry in entries)


def _device_of(entry: Path) -> int | None:
    try:
        status = entry.stat()
    except OSError:
        return None
    return status.st_rdev if stat.S_ISCHR(status.st_mode) else None


def _name(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "a process"
