"""Sandbox for processes that open files which may run code: a process may compute, and write into one folder only.

Four walls enclose the process, the first three held by the kernel:
- a filter of system calls: no socket, no thread, no other process;
- Landlock: reads from listed paths only, writes into the folder only;
- resource limits: memory, CPU time, size of a file;
- its parent, which kills it after a timeout, or when it fills the disk.
A process that builds an engine may use the GPU: it has its device files and threads, and no limit of address space,
because CUDA maps far more than it uses. It opens data, never code.
No wall needs privileges, so all work for root, for a user, and inside the service's own systemd sandbox.
"""

import resource
import threading
from pathlib import Path
from typing import Final

import msgspec

from agent.messages.errors import MistakeError
from agent.processes.walls import kernel, landlock, missing_walls, syscalls
from agent.processes.walls.readable import gpu_files, gpu_readable, readable

_DESCRIPTORS: Final = 256
_GRACE_S: Final = 5
_STATM: Final = Path("/proc/self/statm")


class IsolationError(MistakeError):
    """A wall of the sandbox is missing on this kernel; the message names it."""


class Limits(msgspec.Struct, frozen=True):
    """Limits on the resources of a sandboxed process."""

    memory_bytes: int
    """Memory beyond that of the loaded libraries."""
    cpu_s: int
    wall_s: float
    """Elapsed time, enforced by the parent."""
    disk_bytes: int


def enter(folder: Path, limits: Limits, *, is_trusted: bool = False, for_gpu: bool = False) -> tuple[str, ...]:
    """Enter the sandbox for the rest of this process's life; return the walls in force.

    `for_gpu` admits what the driver of an NVIDIA GPU needs. Must be called while the process has one thread. Raises
    IsolationError where the kernel lacks a wall; with `is_trusted` that wall is left out.
    """
    if threading.active_count() > 1:
        raise IsolationError("a process with several threads cannot be shut in")
    missing, standing = missing_walls(), standing_walls()
    if missing and not is_trusted:
        raise IsolationError("; ".join(missing.values()))
    kernel.give_up_rights()
    _limit(limits)
    if "files" not in missing:
        landlock.restrict(folder, (*readable(), *(gpu_readable() if for_gpu else ())), gpu_files() if for_gpu else ())
    if "calls" not in missing:
        syscalls.restrict(for_gpu=for_gpu)
    return standing


def limit_memory(limits: Limits) -> None:
    """Limit this process to `memory_bytes` beyond its present memory; call it once its libraries are loaded."""
    most_bytes = _mapped_bytes() + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


def standing_walls() -> tuple[str, ...]:
    """Return the names of the walls that this kernel supports."""
    missing = missing_walls()
    return tuple(wall for wall in ("limits", "files", "calls") if wall not in missing)


def _mapped_bytes() -> int:
    return int(_STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_CPU: (limits.cpu_s, limits.cpu_s + _GRACE_S),  # the soft limit signals, the hard one kills
        resource.RLIMIT_FSIZE: (limits.disk_bytes, limits.disk_bytes),
        resource.RLIMIT_NOFILE: (_DESCRIPTORS, _DESCRIPTORS),
        resource.RLIMIT_CORE: (0, 0),
    }
    for what, (soft, hard) in wanted.items():
        most = resource.getrlimit(what)[1]
        allowed = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(what, (min(soft, allowed), allowed))
