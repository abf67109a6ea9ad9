"""Available memory of the device and memory of processes, from the kernel's files."""

import os
from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def available_bytes() -> int:
    """Return the memory that can be allocated without swapping: MemAvailable within cgroup limits.

    On a Jetson, CPU and GPU share this memory.
    """
    available = int(psutil.virtual_memory().available)
    limits = [_cgroup_free(folder) for folder in _own_cgroups()]
    return min([available, *(free for free in limits if free is not None)])


def proportional_bytes(pid: int) -> int | None:
    """Return a process' proportional share (PSS) of memory; None if it ended, or the kernel does not tell.

    The kernel visits every page for it, in one call: 2 ms of a core for 165 MB.
    """
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return None


def resident_bytes(pid: int) -> int:
    """Return a process' resident memory (RSS), which the kernel counts as pages come and go; 0 if it ended."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def unshared_bytes(pid: int) -> int:
    """Return a process' memory that is neither of a file nor shared; 0 if it ended. Takes no lock of the process.

    Of one that was killed, the first thread may have ended, which tells 0 then, beside others in a driver.
    """
    process = Path(f"/proc/{pid}")
    try:
        return _unshared_bytes(process) or max(map(_unshared_bytes, (process / "task").iterdir()), default=0)
    except OSError:
        return 0


def _unshared_bytes(task: Path) -> int:
    try:
        _, resident, shared = map(int, (task / "statm").read_text(encoding="ascii").split()[:3])
    except (OSError, ValueError):  # because it may end at any time
        return 0
    return (resident - shared) * _PAGE_BYTES


def _own_cgroups() -> list[Path]:
    """Return this process' cgroup (version 2) and its ancestors."""
    try:
        line = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[-1]
    except (OSError, IndexError):
        return []
    folder = _CGROUP / line.partition("::")[2].lstrip("/")
    return [folder, *folder.parents[: len(folder.parts) - len(_CGROUP.parts)]]


def _cgroup_free(folder: Path) -> int | None:
    """Return a cgroup's free bytes, including droppable file cache; None where it has no limit."""
    limits = [limit for name in ("memory.max", "memory.high") if (limit := _number(folder / name)) is not None]
    current = _number(folder / "memory.current")
    if not limits or current is None:
        return None
    return max(0, min(limits) - current + _inactive_file(folder))


def _number(path: Path) -> int | None:
    """Read one number from a file; None for `max` or an unreadable file."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _inactive_file(folder: Path) -> int:
    try:
        text = (folder / "memory.stat").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("inactive_file "))
    except (OSError, StopIteration, ValueError):
        return 0
