"""How far a load steps back, and how long: idle where that gets it on, behind the lines once it starves, no longer."""

from collections.abc import Set as AbstractSet
from typing import Final

from agent.inference.scheduling import thread_priority
from agent.inference.scheduling.thread_priority import LoadPriority

_ENOUGH: Final = 0.1
"""Of one core. Much of a load runs on threads of its runtime that nobody lowers: its own has only a part of it."""
_OWN_S: Final = 0.5
_BEHIND_S: Final = 1.0
_HURRIED_S: Final = 3.0
_LONGEST_SHARE: Final = 0.5  # of a load's time: what has not got on by then would come to nothing
_SPARE_SHARE: Final = 0.2
"""Of all cores. With less than that to spare idle threads starve, and whoever waits for what one holds."""


def first_priority(spare_share: float, serving: AbstractSet[str], unready: AbstractSet[str]) -> LoadPriority:
    """Say where a load begins beside lines that are `serving`, with `unready` ones among those that wait for it.

    The frames of an unready line are of no use to its product: those may wait for the load. All others may not.
    """
    if not serving:
        return "usual"
    if spare_share >= _SPARE_SHARE:
        return "idle"
    return "usual" if serving <= unready else "behind"


class LoadPriorityMonitor:
    """One load's, from its beginning on; looked at now and then, with the loader's `turn` held.

    A load starves while it could run, and gets less than a tenth of a core: one that waits for a disk, or for bytes to
    come back, does not. Where others serve than unready lines that wait for it, it steps up by degrees; where only
    those do, it runs like anything else then; where nobody waits for it, it stays where it is. After half of its time
    it runs like anything else, whatever it got.

    Without the right to change priorities back (see `priority`) nothing here has an effect.
    """

    def __init__(self, timeout_s: float) -> None:
        self._longest_s: Final = timeout_s * _LONGEST_SHARE
        self._begun_s = thread_priority.cpu_s(thread_priority.threads())
        self._looked_s = 0.0
        self._wanted_s = 0.0
        self._is_behind = False
        self._is_over = False

    def begin(self, rung: LoadPriority) -> None:
        """Note that a part of the load begins at `rung`."""
        self._is_behind = rung == "behind"

    def look(self, age_s: float, *, is_awaited: bool, is_own: bool) -> None:
        """Do what is due for a load that began `age_s` ago.

        `is_awaited`: a line waits for it; `is_own`: all lines that serve do, and are not ready.
        """
        if self._is_over or age_s > self._longest_s:
            self._hurry()  # again too: a load steps back anew with each of its parts
            return
        since_s, self._looked_s = age_s - self._looked_s, age_s
        if thread_priority.is_any_runnable(thread_priority.stepped_back()):
            self._wanted_s += since_s
        if is_awaited and self._wanted_s > self._enough_s(is_own=is_own):
            self._step(is_own=is_own)

    def _enough_s(self, *, is_own: bool) -> float:
        if is_own:
            return _OWN_S
        return _HURRIED_S if self._is_behind else _BEHIND_S

    def _step(self, *, is_own: bool) -> None:
        """Go a step up if it starved, and look at how it fares from here on."""
        if self._ran_s() < _ENOUGH * self._wanted_s:
            if is_own or self._is_behind:
                self._hurry()
            else:
                self._is_behind = True
                thread_priority.raise_priority()
        self._begun_s = thread_priority.cpu_s(thread_priority.threads())
        self._wanted_s = 0.0

    def _hurry(self) -> None:
        self._is_over = True
        thread_priority.restore_normal()

    def _ran_s(self) -> float:
        """Return the CPU time that the load's own threads have had."""
        now_s = thread_priority.cpu_s(thread_priority.stepped_back())
        return sum(ran_s - self._begun_s.get(thread, 0.0) for thread, ran_s in now_s.items())
