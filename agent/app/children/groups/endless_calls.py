"""Takes the processor from a worker that computes on one frame without end, for the sake of the other groups."""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psutil

from agent.processes.scheduling.priorities import LEAST, Lowered
from agent.processes.supervisor import Call

_log: Final = logging.getLogger(__name__)
_TIMES: Final = 3
"""Turns of all the group's streams whose processor time one call may take; it may wait for the others' turns."""
_LEAST_S: Final = 0.2
"""Processor time that each inference may take, because that of a fast model may wait for memory or a disk."""
_HUNG_BY: Final = 10
"""Nice values for a tenth of its time; no less, because what hangs may be an import that must end."""
_PARTS: Final = {_HUNG_BY: 10, LEAST: 60}
"""Divisor of the weight of a thread that is lowered by so many nice values."""
_CORES: Final = len(os.sched_getaffinity(0))


def spent_s(pid: int) -> float:
    """Return the processor time of a process in s, to 10 ms; 0 if it ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


@dataclass
class _Watched:
    """A worker's call that could hang, since a heartbeat told it first."""

    pid: int
    since_s: float
    told_s: float
    """Arrival of the newest heartbeat that told it."""
    first_s: float
    """Processor time of the process after the first of these heartbeats."""
    last_s: float
    """Processor time at the last look."""
    lowered: Lowered | None = None
    part: int = 1


class EndlessCalls:
    """Watch over the present call of each group's worker; for the loop's thread.

    A worker whose call has taken the processor time of several usual inferences is lowered until the call returns.
    Processor time it is, because a call that others keep from the processor takes long, too. Only time between two
    heartbeats that tell of the same call is counted, because after the last one another call may have begun.
    """

    def __init__(self, spent: Callable[[int], float] = spent_s, lower: Callable[[int, int], Lowered] = Lowered) -> None:
        """Store how processor time is read, and a process lowered by nice values; tests replace both."""
        self._spent: Final = spent
        self._lower: Final = lower
        self._calls: Final[dict[str, _Watched]] = {}

    def look(self, group: str, pid: int | None, call: Call, turn_s: float, *, is_hung: bool) -> int:
        """Look at a worker again; return by what its weight is divided while it is lowered, else 1.

        `call` is what its last heartbeat told. `turn_s`: what an inference for each of its streams usually takes
        together; where it is 0, as for a request, only one that `is_hung` is lowered, whatever it is seen to take.
        """
        since_s = 0.0 if call.is_request else call.since_s
        watched = self._calls.get(group)
        is_present = pid is not None and (since_s > 0 or is_hung)
        if watched is not None and (not is_present or (watched.pid, watched.since_s) != (pid, since_s)):
            self._ended(group, watched)
            watched = None
        if not is_present or pid is None:
            return 1
        if watched is not None and watched.lowered is not None:
            return watched.part
        spent = self._spent(pid)
        if watched is None:
            self._calls[group] = watched = _Watched(pid, since_s, call.told_s, spent, spent)
        is_endless = False
        if call.told_s > watched.told_s:
            watched.told_s = call.told_s
            is_endless = turn_s > 0 and watched.last_s - watched.first_s > _allowed_s(turn_s)
        watched.last_s = spent
        if is_endless or is_hung:
            _log.warning("event=worker_lowered group=%s pid=%d endless=%s", group, pid, is_endless)
            by = LEAST if is_endless else _HUNG_BY
            watched.lowered, watched.part = self._lower(pid, by), _PARTS[by]
        return watched.part

    def _ended(self, group: str, watched: _Watched) -> None:
        del self._calls[group]
        if watched.lowered is not None:
            _log.info("event=worker_restored group=%s pid=%d", group, watched.pid)
            watched.lowered.restore()


def _allowed_s(turn_s: float) -> float:
    return max(_LEAST_S, _TIMES * _CORES * turn_s)
