"""The loader's place behind the lines that run: SCHED_IDLE for its thread, and the way back for what it started.

A runtime's own threads inherit the policy of the thread that starts them and keep it; answers of a model whose threads
stayed idle would starve. So whatever a load started is put back afterwards. Where that is not allowed (no RLIMIT_NICE
of at least 20 - a unit's `LimitNICE=` - and not root) a load gets a thread of its own, which ends with it.
"""

import functools
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

LoadPriority = Literal["usual", "behind", "idle"]
"""Where a load runs: like anything else, a little behind the lines, or only where nobody else wants the core."""

_LOG: Final = logging.getLogger(__name__)
_TASKS: Final = Path("/proc/self/task")
_NO_PARAMETER: Final = os.sched_param(0)
_BEHIND_NICE: Final = 5
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


def set_idle(thread: int) -> None:
    """Let a thread run only where nobody else wants the core; `thread` is a native id, 0 the caller."""
    os.sched_setscheduler(thread, os.SCHED_IDLE, _NO_PARAMETER)


def set_normal(thread: int) -> bool:
    """Give a thread its usual share again; False where it is gone or that is not allowed."""
    return _set_nice(thread, _usual_nice())


def raise_priority() -> None:
    """Let all threads of this process that are idle run a little behind the others: a load starves where it is."""
    for thread in _idle_threads():
        _set_nice(thread, _usual_nice() + _BEHIND_NICE)


def restore_normal() -> None:
    """Give all threads of this process that step back their usual share again: a load has waited long enough.

    The runtime's own threads that the load has started are among them; those that it starts from here on inherit it.
    """
    for thread in stepped_back():
        set_normal(thread)


def cpu_s(threads: Iterable[int]) -> dict[int, float]:
    """Return the CPU time that each thread of this process has had; those that are gone are left out."""
    found = {}
    for thread in threads:
        fields = _fields(thread)
        if fields:
            user, system = fields[11:13]  # fields 14 and 15 of proc(5), after the name
            found[thread] = (int(user) + int(system)) / _TICKS_A_SECOND
    return found


def is_any_runnable(threads: Iterable[int]) -> bool:
    """Say whether one of these threads of this process runs or waits for a core, not for anything else."""
    return any(_fields(thread)[:1] == ["R"] for thread in threads)


def _fields(thread: int) -> list[str]:
    """Return what the kernel says of a thread, from its state (field 3 of proc(5)) on; nothing where it is gone."""
    try:
        text = (_TASKS / str(thread) / "stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def threads() -> set[int]:
    """Return all threads of this process."""
    return {int(task.name) for task in _TASKS.iterdir()}


@functools.cache
def can_return() -> bool:
    """Say whether a thread of this process may leave SCHED_IDLE again; tried once, on a thread of its own."""
    returned: list[bool] = []

    def probe() -> None:
        with suppress(OSError):
            set_idle(0)
            returned.append(set_normal(0))

    _usual_nice()
    thread = threading.Thread(target=probe, name="priority-probe")
    thread.start()
    thread.join()
    if returned != [True]:
        _LOG.info("loads run on threads of their own: this process may not leave SCHED_IDLE (see LimitNICE=)")
    return returned == [True]


@functools.cache
def _usual_nice() -> int:
    """Return how nice this process is; asked once, before any of its threads steps back."""
    return os.getpriority(os.PRIO_PROCESS, os.getpid())


def _set_nice(thread: int, nice: int) -> bool:
    try:
        os.sched_setscheduler(thread, os.SCHED_OTHER, _NO_PARAMETER)
        if os.getpriority(os.PRIO_PROCESS, thread) != nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)
    except OSError:
        return False
    return True


def _idle_threads() -> set[int]:
    found = set()
    for thread in threads():
        with suppress(OSError):  # a thread may end while we look
            if os.sched_getscheduler(thread) == os.SCHED_IDLE:
                found.add(thread)
    return found


def stepped_back() -> set[int]:
    """Return the threads of this process that step back for others."""
    found, behind = _idle_threads(), _usual_nice() + _BEHIND_NICE
    for thread in threads():
        with suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, thread) == behind:
                found.add(thread)
    return found


@contextmanager
def low_priority(rung: LoadPriority) -> Iterator[None]:
    """Run the block at its `rung` if that can be left again; threads that it started come out at normal priority."""
    if rung == "usual" or not can_return():
        yield
        return
    before = stepped_back()
    _step_back(rung)
    try:
        yield
    finally:
        set_normal(0)
        for thread in stepped_back() - before:
            set_normal(thread)


def run_aside(work: Callable[[], None], rung: LoadPriority) -> None:
    """Run `work` at its `rung`; returns when it is done, and raises what it raises."""
    if rung == "usual" or can_return():
        with low_priority(rung):
            work()
        return
    failures: list[BaseException] = []

    def run() -> None:
        _step_back(rung)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run, name="load-aside", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _step_back(rung: LoadPriority) -> None:
    """Put the calling thread behind the lines."""
    with suppress(OSError):
        if rung == "idle":
            set_idle(0)
        else:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _usual_nice() + _BEHIND_NICE)
