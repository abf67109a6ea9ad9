"""The loader's place behind the lines that run: SCHED_IDLE for its thread, and the way back for what it started.

A runtime's own threads inherit the policy of the thread that starts them and keep it; answers of a model whose threads
stayed idle would starve. So whatever a load started is put back afterwards. Where that is not allowed (no RLIMIT_NICE
of at least 20 - a unit's `LimitNICE=` - and not root) a load gets a thread of its own, which ends with it: idle if the
cores have time to spare, else a little behind the lines, for nobody could hurry it then.
"""

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_LOG: Final = logging.getLogger(__name__)
_TASKS: Final = Path("/proc/self/task")
_STAT: Final = Path("/proc/stat")
_NO_PARAMETER: Final = os.sched_param(0)
_WINDOW_S: Final = 0.1
_SPARE_SHARE: Final = 0.2
_BEHIND_NICE: Final = 5
_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")


def set_idle(thread: int) -> None:
    """Let a thread run only where nobody else wants the core; `thread` is a native id, 0 the caller."""
    os.sched_setscheduler(thread, os.SCHED_IDLE, _NO_PARAMETER)


def set_normal(thread: int) -> bool:
    """Give a thread its usual share again; False where it is gone or that is not allowed."""
    return _set_nice(thread, _usual_nice())


def step_up() -> None:
    """Let all threads of this process that are idle run a little behind the others: a load starves where it is."""
    for thread in _idle_threads():
        _set_nice(thread, _usual_nice() + _BEHIND_NICE)


def hurry() -> None:
    """Give all threads of this process that step back their usual share again: a load has waited long enough.

    The runtime's own threads that the load has started are among them; those that it starts from here on inherit it.
    """
    for thread in stepped_back():
        set_normal(thread)


def cpu_s(threads: Iterable[int]) -> dict[int, float]:
    """Return the CPU time that each thread of this process has had; those that are gone are left out."""
    found = {}
    for thread in threads:
        with suppress(OSError):
            words = (_TASKS / str(thread) / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
            user, system = words.split()[11:13]  # fields 14 and 15 of proc(5), after the name
            found[thread] = (int(user) + int(system)) / _TICKS_A_SECOND
    return found


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
def low_priority(wanted: bool) -> Iterator[None]:  # noqa: FBT001 - reads as `low_priority(line.serves)`
    """Run the block at SCHED_IDLE if `wanted` and possible; threads that it started come out at normal priority."""
    if not (wanted and can_return()):
        yield
        return
    before = stepped_back()
    set_idle(0)
    try:
        yield
    finally:
        set_normal(0)
        for thread in stepped_back() - before:
            set_normal(thread)


def run_aside(work: Callable[[], None], *, is_wanted: bool) -> None:
    """Run `work` behind whatever else runs, if `is_wanted`; returns when it is done, and raises what it raises."""
    if not is_wanted or can_return():
        with low_priority(is_wanted):
            work()
        return
    failures: list[BaseException] = []

    def run() -> None:
        _step_back()
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again below, in the thread that waits
            failures.append(error)

    thread = threading.Thread(target=run, name="load-aside", daemon=True)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _step_back() -> None:
    """Give the calling thread, which has no way back, as little as it can do with."""
    with suppress(OSError):
        if _idle_share(_WINDOW_S) >= _SPARE_SHARE:
            set_idle(0)
        else:
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _BEHIND_NICE)


def _idle_share(window_s: float) -> float:
    """Say which share of the cores' time nobody wanted in a window that begins now."""
    before = ticks()
    time.sleep(window_s)
    after = ticks()
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def ticks() -> tuple[int, int]:
    """Return the idle and all clock ticks of the cores since the start."""
    counts = [int(word) for word in _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
    return counts[3] + counts[4], sum(counts)
