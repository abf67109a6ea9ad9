"""A process that may compute and write into one folder, and nothing else: for files that run code when they are read.

The kernel holds four walls around it. None needs rights, so they stand for root, for a user, and inside the service's
own sandbox alike: a list of system calls (no socket, no thread, no other process), Landlock (what it may read; no write
beside the folder), limits (memory, time, a file's size), and who started it, who kills it where it is late or fills
the disk.
"""

import resource
import threading
from pathlib import Path
from typing import Final

import msgspec

from agent.inference.sandbox import kernel, landlock, syscalls
from agent.inference.sandbox.readable import readable
from agent.messages.errors import MistakeError

_DESCRIPTORS: Final = 256
_GRACE_S: Final = 5
_STATM: Final = Path("/proc/self/statm")


class IsolationError(MistakeError):
    """One of the walls cannot be had on this kernel; the message says which."""


class Limits(msgspec.Struct, frozen=True):
    """What a process in the sandbox may use. `memory_bytes` is beyond what its libraries take."""

    memory_bytes: int
    cpu_s: int
    wall_s: float
    disk_bytes: int


def enter(folder: Path, limits: Limits, *, is_trusted: bool = False) -> tuple[str, ...]:
    """Shut this process in, for good: before the first library that starts a thread. Returns which walls stand.

    Raises IsolationError where the kernel lacks one, unless `is_trusted`: then the others stand.
    """
    if threading.active_count() > 1:
        raise IsolationError("a process with several threads cannot be shut in")
    missing, standing = missing_walls(), standing_walls()
    if missing and not is_trusted:
        raise IsolationError("; ".join(missing.values()))
    kernel.give_up_rights()
    _limit(limits)
    if "files" not in missing:
        landlock.restrict(folder, readable())
    if "calls" not in missing:
        syscalls.restrict()
    return standing


def limit_memory(limits: Limits) -> None:
    """Let this process map `memory_bytes` more than it does now: called once its libraries are there."""
    most_bytes = _mapped_bytes() + limits.memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))


def standing_walls() -> tuple[str, ...]:
    """Name the walls that this kernel holds."""
    missing = missing_walls()
    return tuple(wall for wall in ("limits", "files", "calls") if wall not in missing)


def missing_walls() -> dict[str, str]:
    """Name the walls that this kernel cannot hold, with what is missing."""
    missing = {}
    if not syscalls.is_there():
        missing["calls"] = (
            "no filter of system calls (the package libseccomp2, and a kernel with CONFIG_SECCOMP_FILTER)"
        )
    if "calls" in missing or not landlock.version():  # whose calls are known by name there
        missing["files"] = "the kernel has no Landlock (5.13 or newer, CONFIG_SECURITY_LANDLOCK, `lsm=landlock,...`)"
    return missing


def _mapped_bytes() -> int:
    return int(_STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _limit(limits: Limits) -> None:
    wanted = {
        resource.RLIMIT_CPU: (limits.cpu_s, limits.cpu_s + _GRACE_S),  # the first asks, the second kills
        resource.RLIMIT_FSIZE: (limits.disk_bytes, limits.disk_bytes),
        resource.RLIMIT_NOFILE: (_DESCRIPTORS, _DESCRIPTORS),
        resource.RLIMIT_CORE: (0, 0),
    }
    for what, (soft, hard) in wanted.items():
        most = resource.getrlimit(what)[1]
        allowed = hard if most == resource.RLIM_INFINITY else min(hard, most)
        resource.setrlimit(what, (min(soft, allowed), allowed))
