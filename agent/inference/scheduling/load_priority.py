"""Lowers the CPU priority of a model load beside lines that serve."""

import functools
import os
import threading
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

from agent.processes.scheduling import priorities

LoadPriority = Literal["normal", "background", "idle"]

_TASKS: Final = Path("/proc/self/task")
_NO_PARAMETER: Final = os.sched_param(0)
_BACKGROUND_NICE: Final = 5
"""Added to the process' own nice value; such a thread gets a third of a normal thread's CPU time."""
ENOUGH_IDLE: Final = 0.2
"""Idle share of CPU time below which threads at idle priority starve, and block others by the locks that they hold."""
_normal: int | None = None
"""Nice value of this process as `begin` found it."""
_inside: Final[set[int]] = set()
"""Threads in a block of `lowered`."""


def choose(idle_share: float, serving: AbstractSet[str], unready: AbstractSet[str]) -> LoadPriority:
    """Return the CPU priority of a load while it competes with lines in `serving`.

    `unready`: the lines that wait for the load with `ready` 0. Their frames may be delayed by the load, because their
    present model is wrong for their product; frames of other lines may not. `idle_share` is 0 to 1.
    """
    if serving <= unready:
        return "normal"
    return "idle" if idle_share >= ENOUGH_IDLE else "background"


@contextmanager
def lowered(priority: LoadPriority, *, may_stay: bool, others: Iterable[int] = ()) -> Iterator[None]:
    """Run the block at `priority`; then return the caller, and threads that a runtime started, to normal.

    `others`: further threads (ids of the kernel) to lower, which may do the block's work and no line's.

    Without the right to return (no RLIMIT_NICE, as a unit's `LimitNICE=`, and not root) the thread is lowered only
    where it `may_stay` so, because it ends soon, and never to idle, because it may hold locks until then.
    """
    if priority == "normal" or not (may_stay or priorities.can_return()):
        yield
        return
    own, before = threading.get_native_id(), _tasks()
    _inside.add(own)
    for thread in (own, *(others if priorities.can_return() else ())):
        with suppress(OSError):  # a thread of a runtime may end meanwhile
            if priority == "idle" and priorities.can_return():
                os.sched_setscheduler(thread, os.SCHED_IDLE, _NO_PARAMETER)
            else:
                os.setpriority(os.PRIO_PROCESS, thread, normal_nice() + _BACKGROUND_NICE)
    try:
        yield
    finally:
        _restore({own})  # first, because frames wait for the GIL while a thread holds it that does not run
        _inside.discard(own)
        # Because what was there before may be of another block, which lasts.
        _restore(_tasks() - before - _inside | {own} if _inside else _tasks())


def restore_normal() -> None:
    """Return all lowered threads of this process to normal priority, where that is allowed.

    A runtime's threads are among them, because they inherit the priority of the thread that starts them.
    """
    _restore(_tasks())


def _tasks() -> set[int]:
    return {int(task.name) for task in _TASKS.iterdir()}


def _restore(threads: set[int]) -> None:
    for thread in threads:
        with suppress(OSError):  # a thread may end meanwhile
            if os.sched_getscheduler(thread) == os.SCHED_IDLE:
                os.sched_setscheduler(thread, os.SCHED_OTHER, _NO_PARAMETER)
            if os.getpriority(os.PRIO_PROCESS, thread) == normal_nice() + _BACKGROUND_NICE:
                os.setpriority(os.PRIO_PROCESS, thread, normal_nice())


def begin(further_nice: int) -> None:
    """Lower this process for good by `further_nice`; call it before anything else here, in a child of control.

    What is normal is told by control's own priority, because control may have lowered this process while it starts.
    """
    global _normal  # noqa: PLW0603 - a process has one
    os.nice(further_nice)
    _normal = min(priorities.LEAST, os.getpriority(os.PRIO_PROCESS, os.getppid()) + further_nice)


def normal_nice() -> int:
    """Return the nice value of this process while nothing lowers it."""
    return _own_nice() if _normal is None else _normal


@functools.cache
def _own_nice() -> int:
    """Return the nice value of this process; first called before any thread is lowered."""
    return os.getpriority(os.PRIO_PROCESS, os.getpid())
