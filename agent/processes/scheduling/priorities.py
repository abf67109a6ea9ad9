"""Priorities of the threads of this and of other processes."""

import functools
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

_log: Final = logging.getLogger(__name__)
_NO_PARAMETER: Final = os.sched_param(0)
LEAST: Final = 19
"""Nice value of a thread that gets a sixtieth of what another one gets, and is interrupted at once by it."""


@functools.cache
def can_return() -> bool:
    """Return True where a thread of this user may raise its priority again; tried once, on a thread of its own."""
    returned: list[bool] = []

    def probe() -> None:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, _NO_PARAMETER)
            os.sched_setscheduler(0, os.SCHED_OTHER, _NO_PARAMETER)
            returned.append(True)

    thread = threading.Thread(target=probe, name="priority-probe")
    thread.start()
    thread.join()
    if not returned:
        _log.info("event=no_priority_return detail='see LimitNICE='")
    return bool(returned)


class Lowered:
    """The threads of a process, lowered by some nice values until `restore`, where they may be raised again."""

    def __init__(self, pid: int, by: int = LEAST) -> None:
        """Lower the threads by so many nice values below normal, at most to `LEAST`."""
        self._tasks: Final = Path(f"/proc/{pid}/task")
        self._normal = self._nice = LEAST
        with suppress(OSError):  # because the process may end at any time
            self._normal = os.getpriority(os.PRIO_PROCESS, pid)
            self._nice = min(LEAST, max(0, self._normal) + by)
            if can_return():
                self._change(lambda nice: nice < self._nice, self._nice)

    def restore(self) -> None:
        """Return the threads to what the process has, also a load's, whose end nobody would see at its lower one."""
        if self._normal < self._nice and can_return():
            self._change(lambda nice: nice == self._nice, self._normal)

    def _change(self, is_meant: Callable[[int], bool], nice: int) -> None:
        """Set the nice value of the threads whose present one `is_meant`, until no further one has begun meanwhile."""
        changed: set[int] = set()
        while found := set(self._threads()) - changed:
            changed |= found
            for thread in found:
                with suppress(OSError):  # because a thread may end meanwhile
                    if is_meant(os.getpriority(os.PRIO_PROCESS, thread)):
                        os.setpriority(os.PRIO_PROCESS, thread, nice)

    def _threads(self) -> list[int]:
        try:
            return [int(task.name) for task in self._tasks.iterdir()]
        except OSError:
            return []
