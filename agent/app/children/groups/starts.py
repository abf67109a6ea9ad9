"""Has a worker that starts again after a loss step back, for the sake of the other groups' lines."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.processes.scheduling.priorities import LEAST, Lowered

_log: Final = logging.getLogger(__name__)
LONGEST_S: Final = 2.0
"""Most time of a start at the lowest priority, because on busy cores it gets a sixtieth of what it needs."""
_PART: Final = 60
"""Divisor of the weight of a thread that is lowered to `LEAST`."""


@dataclass(frozen=True)
class _Start:
    pid: int
    until_s: float
    lowered: Lowered


class Starts:
    """The workers that start again at the lowest priority; for the loop's thread.

    Imports and the first load take a core for a second or so, in which frames of other groups would wait.
    """

    def __init__(self, lower: Callable[[int, int], Lowered] = Lowered) -> None:
        """Store how a process is lowered by nice values; tests replace it."""
        self._lower: Final = lower
        self._starts: Final[dict[str, _Start]] = {}

    def began(self, group: str, pid: int, now_s: float) -> None:
        """Lower a new process, until `look` returns it to normal."""
        _log.info("event=start_lowered group=%s pid=%d", group, pid)
        self._starts[group] = _Start(pid, now_s + LONGEST_S, self._lower(pid, LEAST))

    def look(self, group: str, pid: int | None, now_s: float, *, serves: bool) -> int:
        """Return by what a starting worker's weight is divided, 1 where none starts; raise one that has started.

        `serves`: a line of it has its model again. One that takes longer than `LONGEST_S` goes on at normal priority.
        """
        start = self._starts.get(group)
        if start is None:
            return 1
        if pid == start.pid and not serves and now_s < start.until_s:
            return _PART
        del self._starts[group]
        start.lowered.restore()
        return 1
