"""How long a load steps back: idle while that gets it on, a little behind the lines once it starves, and no longer."""

from typing import Final

from agent.inference import priority

_FIRST_LOOK_S: Final = 0.5
_LAST_S: Final = 3.0
_ENOUGH: Final = 0.25
"""Of one core. A line that leaves less than this to whatever is idle would hold up a changeover for its own frames."""


class Patience:
    """One load's, from its beginning on; looked at now and then, with the loader's `turn` held.

    Without the right to change priorities back (see `priority`) nothing here has an effect.
    """

    def __init__(self) -> None:
        self._begun_s: Final = priority.cpu_s(priority.threads())
        self._is_behind = False
        self._is_over = False

    def look(self, age_s: float) -> None:
        """Do what is due for a load that began `age_s` ago."""
        if age_s > _LAST_S and not self._is_over:
            self._is_over = True
            priority.hurry()
        elif age_s > _FIRST_LOOK_S and not (self._is_behind or self._is_over) and self._ran_s() < _ENOUGH * age_s:
            self._is_behind = True
            priority.step_up()

    def _ran_s(self) -> float:
        """Return the CPU time that the load's own threads have had."""
        now_s = priority.cpu_s(priority.stepped_back())
        return sum(ran_s - self._begun_s.get(thread, 0.0) for thread, ran_s in now_s.items())
