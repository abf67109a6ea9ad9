"""Kernel walls of groups by cgroup v2: limits on memory and shares of the processor, where the service may set them."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import psutil

from agent.app.children.groups.memory_limits import MemoryLimits

_log: Final = logging.getLogger(__name__)
_ROOT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_CONTROLLERS: Final = ("cpu", "memory")
_OWN: Final = "control"
"""Leaf of control and of the cameras, because processes may only be in leaves."""
_NO_CGROUPS: Final = "this system has no cgroup v2"
_NOT_DELEGATED: Final = "this service's cgroup is not its own to divide: Delegate=yes in its unit"


class Walls:
    """Owner of the cgroups below the service's own, one for each group's worker; for the loop's thread.

    Without cgroup v2 that is delegated to the service nothing is limited, and `missing` says why.
    """

    def __init__(self, cpu_weights: Mapping[str, int], root: Path = _ROOT, membership: Path = _MEMBERSHIP) -> None:
        """Store the processor weight of each group; `root` is where cgroups are mounted, tests replace it."""
        self._cpu_weights: Final = cpu_weights
        self._root: Final = root
        self._membership: Final = membership
        self._base: Path | None = None
        self._events: Final[dict[str, dict[str, int]]] = {}
        """`memory.events` of each group's cgroup when its worker started."""
        self._parts: Final[dict[str, int]] = {}
        """Divisor of each restrained group's weight."""
        self._limits: Final = MemoryLimits(self._write_limit)
        self.missing = ""
        """The reason for missing walls; empty where they stand."""

    def build(self) -> None:
        """Divide the service's cgroup; leave all as it was where that is not possible."""
        try:
            self._base = self._divided()
        except OSError as error:
            self.missing = f"{_NOT_DELEGATED} ({error.strerror or error})"
        if self.missing:
            _log.info("event=no_walls detail=%r", self.missing)

    def admit(self, group: str, pid: int) -> None:
        """Move a new worker into its group's cgroup; what it starts stays there, too."""
        if self._base is not None:
            self._write(self._base / _leaf(group) / "cgroup.procs", str(pid))
            self._events[group] = self._memory_events(group)
            self.restrain(group, 1)

    def restrain(self, group: str, part: int) -> None:
        """Divide the weight of a group by `part`; 1 gives it all of it again."""
        if self._base is not None and part != self._parts.get(group, 1):
            self._parts[group] = part
            self._write(self._base / _leaf(group) / "cpu.weight", str(max(1, self._cpu_weights[group] // part)))

    def reached(self, group: str) -> str:
        """Return that the kernel killed processes of a group at its memory limit since its worker started; else ""."""
        now, before = self._memory_events(group), self._events.get(group, {})
        killed, failed = (now.get(name, 0) - before.get(name, 0) for name in ("oom_kill", "oom"))
        if killed <= 0 or failed <= 0:  # because the kernel counts as `oom_kill` what it kills for the device, too
            return ""
        limit = self._read(group, "memory.max").strip()
        size = f"{int(limit) >> 20} MiB" if limit.isdecimal() else "the service's"
        return f"the kernel killed {killed} of its group's processes, whose memory limit is {size}"

    def limit(self, memory_bytes: Mapping[str, int]) -> None:
        """Set the memory limit of each group's processes in bytes; a lowered one holds a little later."""
        if self._base is not None:
            self._limits.set(memory_bytes)

    def _divided(self) -> Path | None:
        """Make the leaves and return the folder above them; None with `missing` set. Raises OSError."""
        base = self._own_cgroup()
        if base is None:
            return None
        present = (base / "cgroup.controllers").read_text(encoding="ascii").split()
        absent = [name for name in _CONTROLLERS if name not in present]
        if absent:
            self.missing = f"the controllers {', '.join(absent)} are not delegated: Delegate=yes in the service's unit"
            return None
        own = base / _OWN
        own.mkdir(exist_ok=True)
        try:
            for pid in (base / "cgroup.procs").read_text(encoding="ascii").split():
                (own / "cgroup.procs").write_text(pid, encoding="ascii")
            wanted = " ".join(f"+{name}" for name in _CONTROLLERS)
            (base / "cgroup.subtree_control").write_text(wanted, encoding="ascii")
        except OSError:
            self._undo(base)
            raise
        # As much as all groups together, because each of them waits for control and its cameras.
        self._write(own / "cpu.weight", str(min(10_000, sum(self._cpu_weights.values()))))
        for group, weight in self._cpu_weights.items():
            folder = base / _leaf(group)
            folder.mkdir(exist_ok=True)
            self._write(folder / "cpu.weight", str(weight))
            self._write(folder / "memory.swap.max", "0")
        return base

    def _own_cgroup(self) -> Path | None:
        """Return this process's cgroup; None with `missing` set where there is none that it may divide."""
        lines = self._membership.read_text(encoding="utf-8").splitlines()
        path = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), None)
        base = self._root / (path or "").lstrip("/")
        if path is None or not (base / "cgroup.controllers").exists():
            self.missing = _NO_CGROUPS
        elif not os.access(base, os.W_OK) or not os.access(base / "cgroup.subtree_control", os.W_OK):
            self.missing = _NOT_DELEGATED
        elif strangers := _strangers(base):
            self.missing = f"{_NOT_DELEGATED}; other programs are in it ({strangers})"
        return None if self.missing else base

    def _memory_events(self, group: str) -> dict[str, int]:
        """Return what the kernel has counted of a group's memory; nothing where it does not count."""
        lines = (line.split() for line in self._read(group, "memory.events").splitlines())
        return {name: int(count) for name, count in lines}

    def _read(self, group: str, name: str) -> str:
        """Return the content of a file of a group's cgroup; "" without one."""
        if self._base is None:
            return ""
        try:
            return (self._base / _leaf(group) / name).read_text(encoding="ascii")
        except OSError:
            return ""

    def _write_limit(self, group: str, limit_bytes: int) -> None:
        if self._base is not None:
            self._write(self._base / _leaf(group) / "memory.max", str(limit_bytes))

    @staticmethod
    def _undo(base: Path) -> None:
        """Move everything back, and remove the leaf."""
        own = base / _OWN
        try:
            for pid in (own / "cgroup.procs").read_text(encoding="ascii").split():
                (base / "cgroup.procs").write_text(pid, encoding="ascii")
            own.rmdir()
        except OSError as error:
            _log.warning("event=cgroup_left folder=%s detail=%r", own, str(error))

    @staticmethod
    def _write(file: Path, value: str) -> None:
        try:
            file.write_text(value, encoding="ascii")
        except OSError as error:
            _log.warning("event=wall_not_set file=%s value=%s detail=%r", file, value, str(error))


def lacking_controllers(root: Path = _ROOT) -> str:
    """Return what the system lacks for walls, whatever the service may do; empty where it lacks nothing."""
    try:
        present = (root / "cgroup.controllers").read_text(encoding="ascii").split()
    except OSError:
        return _NO_CGROUPS
    return ", ".join(f"no controller {name}" for name in _CONTROLLERS if name not in present)


def _leaf(group: str) -> str:
    return f"group-{group}"


def _strangers(base: Path) -> str:
    """Return the process ids in a cgroup that are neither this process nor its descendants; empty without any."""
    others = [pid for pid in (base / "cgroup.procs").read_text(encoding="ascii").split() if not _is_ours(int(pid))]
    return ", ".join(others[:8])


def _is_ours(pid: int) -> bool:
    try:
        return pid == os.getpid() or os.getpid() in [one.pid for one in psutil.Process(pid).parents()]
    except psutil.NoSuchProcess:
        return True
