"""The loader's place behind the lines that run: SCHED_IDLE for its thread, and the way back for what it started.

A runtime's own threads inherit the policy of the thread that starts them and keep it; answers of a model whose threads
stayed idle would starve. So whatever a load started is put back afterwards, and where that is not allowed (no
RLIMIT_NICE of at least 20 - a unit's `LimitNICE=` - and not root) loads run like anything else.
"""

import functools
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_LOG: Final = logging.getLogger(__name__)
_TASKS: Final = Path("/proc/self/task")
_NO_PARAMETER: Final = os.sched_param(0)


def set_idle(thread: int) -> None:
    """Let a thread run only where nobody else wants the core; `thread` is a native id, 0 the caller."""
    os.sched_setscheduler(thread, os.SCHED_IDLE, _NO_PARAMETER)


def set_normal(thread: int) -> bool:
    """Give a thread its usual share again; False where it is gone or that is not allowed."""
    try:
        os.sched_setscheduler(thread, os.SCHED_OTHER, _NO_PARAMETER)
    except OSError:
        return False
    return True


@functools.cache
def can_return() -> bool:
    """Say whether a thread of this process may leave SCHED_IDLE again; tried once, on a thread of its own."""
    returned: list[bool] = []

    def probe() -> None:
        with suppress(OSError):
            set_idle(0)
            returned.append(set_normal(0))

    thread = threading.Thread(target=probe, name="priority-probe")
    thread.start()
    thread.join()
    if returned != [True]:
        _LOG.info("loads run at normal priority: this process may not leave SCHED_IDLE (see LimitNICE=)")
    return returned == [True]


def _idle_threads() -> set[int]:
    found = set()
    for task in _TASKS.iterdir():
        with suppress(OSError):  # a thread may end while we look
            if os.sched_getscheduler(int(task.name)) == os.SCHED_IDLE:
                found.add(int(task.name))
    return found


@contextmanager
def low_priority(wanted: bool) -> Iterator[None]:  # noqa: FBT001 - reads as `low_priority(line.serves)`
    """Run the block at SCHED_IDLE if `wanted` and possible; threads that it started come out at normal priority."""
    if not (wanted and can_return()):
        yield
        return
    before = _idle_threads()
    set_idle(0)
    try:
        yield
    finally:
        set_normal(0)
        for thread in _idle_threads() - before:
            set_normal(thread)
