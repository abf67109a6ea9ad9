"""Takes the processor from a worker that computes on one frame without end, for the sake of the other groups."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil

from agent.processes.priorities import Lowered

_log: Final = logging.getLogger(__name__)
_TIMES: Final = 3
"""Usual inferences whose processor time one may take; more than a crowded picture costs."""
_LEAST_S: Final = 0.2
"""Processor time that each inference may take, because that of a fast model may wait for memory or a disk."""
_CORES: Final = len(os.sched_getaffinity(0))


def spent_s(pid: int) -> float:
    """Return the processor time of a process in s, to 10 ms; 0 if it ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


@dataclass
class _Call:
    """A call that could hang, of one worker."""

    pid: int
    since_s: float
    spent_s: float
    """Processor time of the process when the call was first seen."""
    lowered: Lowered | None = None


class EndlessCalls:
    """Watch over the present call of each group's worker; for the loop's thread.

    A worker whose call has taken the processor time of several usual inferences is lowered until the call returns.
    Processor time it is, because a call that others keep from the processor takes long, too.
    """

    def __init__(self, spent: Callable[[int], float] = spent_s, lower: Callable[[int], Lowered] = Lowered) -> None:
        """Store how processor time is read, and a process lowered; tests replace both."""
        self._spent: Final = spent
        self._lower: Final = lower
        self._calls: Final[dict[str, _Call]] = {}

    def look(self, group: str, pid: int | None, since_s: float, usual_s: float, *, is_hung: bool) -> None:
        """Look at a worker again.

        `since_s`: begin of its present call (monotonic, s), 0 without one; `usual_s`: longest usual inference of its
        models. One that `is_hung` is lowered whatever it is seen to take.
        """
        call = self._calls.get(group)
        is_present = pid is not None and (since_s > 0 or is_hung)
        if call is not None and (not is_present or (call.pid, call.since_s) != (pid, since_s)):
            self._ended(group, call)
            call = None
        if not is_present or pid is None:
            return
        if call is None:
            self._calls[group] = call = _Call(pid, since_s, self._spent(pid))
        if call.lowered is None and (is_hung or self._spent(pid) - call.spent_s > _allowed_s(usual_s)):
            _log.warning("event=worker_lowered group=%s pid=%d detail='one call computes without end'", group, pid)
            call.lowered = self._lower(pid)

    def is_lowered(self, group: str) -> bool:
        """Return True while a group's worker is lowered."""
        call = self._calls.get(group)
        return call is not None and call.lowered is not None

    def _ended(self, group: str, call: _Call) -> None:
        del self._calls[group]
        if call.lowered is not None:
            _log.info("event=worker_restored group=%s pid=%d", group, call.pid)
            call.lowered.restore()


def _allowed_s(usual_s: float) -> float:
    return max(_LEAST_S, _TIMES * _CORES * usual_s)
