"""Priorities of the threads of this and of other processes."""

import functools
import logging
import os
import threading
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
    """The threads of a process, lowered to the least nice value until `restore`, where they may be raised again."""

    def __init__(self, pid: int) -> None:
        self._tasks: Final = Path(f"/proc/{pid}/task")
        self._before: Final[dict[int, int]] = {}
        """Nice value of each thread before."""
        with suppress(OSError):  # because the process may end at any time
            self._normal = os.getpriority(os.PRIO_PROCESS, pid)
            for thread in self._threads() if can_return() else ():
                self._before[thread] = os.getpriority(os.PRIO_PROCESS, thread)
                os.setpriority(os.PRIO_PROCESS, thread, LEAST)

    def restore(self) -> None:
        """Return the threads to what they had; those that they have started meanwhile to what the process has."""
        with suppress(OSError):
            for thread in self._threads() if self._before else ():
                if os.getpriority(os.PRIO_PROCESS, thread) == LEAST:
                    os.setpriority(os.PRIO_PROCESS, thread, self._before.get(thread, self._normal))

    def _threads(self) -> list[int]:
        return [int(task.name) for task in self._tasks.iterdir()]
