"""How much memory the device can give, from the kernel's own files."""

from pathlib import Path
from typing import Final

import psutil

_CGROUP: Final = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Return what can still be allocated without swapping: MemAvailable, within the cgroup's limit.

    On a Jetson, CPU and GPU share this memory.
    """
    available = int(psutil.virtual_memory().available)
    limits = [_cgroup_free(folder) for folder in _own_cgroups()]
    return min([available, *(free for free in limits if free is not None)])


def resident_bytes(pid: int) -> int:
    """Return the proportional share (PSS) of a process' memory, or its RSS where PSS is not to be had; 0 if gone."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):
        return _rss(pid)


def _rss(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0


def _own_cgroups() -> list[Path]:
    """Return this process' cgroup (version 2) and those above it."""
    try:
        line = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()[-1]
    except (OSError, IndexError):
        return []
    folder = _CGROUP / line.partition("::")[2].lstrip("/")
    return [folder, *folder.parents[: len(folder.parts) - len(_CGROUP.parts)]]


def _cgroup_free(folder: Path) -> int | None:
    try:
        limit = (folder / "memory.max").read_text(encoding="ascii").strip()
        current = int((folder / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return None if limit == "max" else max(0, int(limit) - current)
