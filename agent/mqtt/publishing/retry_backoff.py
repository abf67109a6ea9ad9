"""When to offer again what the broker refused. Times are time.monotonic; for one thread."""

import random
from typing import Final

from agent.mqtt.endpoint.connect_errors import Outcome
from agent.processes.backoff import Backoff

_FIRST_S: Final = 0.2
_CAP_S: Final = 2.0
"""Well below the 5 s in which a `ready` 0 must be accepted."""
_DENIED_FIRST_S: Final = 30.0
_DENIED_CAP_S: Final = 600.0
_CAREFUL_S: Final = 60.0
"""So long after a refusal, a class goes one by one: messages behind a refused one would come before it."""
_STUBBORN: Final = 8
"""After so many refusals in a row, while others are accepted, a topic counts as denied: it must not block the rest."""


class Retries:
    """Backoffs for refusals: one for all topics where it is for the moment, one a topic where rights are missing."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._backoff: Final = Backoff(_FIRST_S, _CAP_S, chance)
        self._held_until_s = 0.0
        self._careful_until_s = 0.0
        self._in_a_row: Final[dict[str, int]] = {}
        self._denied: Final[dict[str, tuple[float, float]]] = {}

    def begin(self) -> None:
        """Forget the backoffs: a new connection tries everything at once; what was refused still goes one by one."""
        self._backoff.reset()
        self._held_until_s = 0.0
        self._in_a_row.clear()
        self._denied.clear()

    def answered(self, topic: str, outcome: Outcome, now_s: float) -> Outcome:
        """Note an answer; return it, or DENIED where a topic alone is refused again and again."""
        if outcome is Outcome.LATER and self._is_stubborn(topic):
            outcome = Outcome.DENIED
        if outcome is Outcome.ACCEPTED:
            self._accepted(topic)
        elif outcome is Outcome.LATER:
            self._in_a_row[topic] = min(self._in_a_row.get(topic, 0) + 1, _STUBBORN)
            self._careful_until_s = now_s + _CAREFUL_S
            if not self.is_held(now_s):
                self._held_until_s = now_s + self._backoff.next_s()
        elif outcome is Outcome.DENIED and not self.is_denied(topic, now_s):
            _, wait_s = self._denied.get(topic, (0.0, _DENIED_FIRST_S / 2))
            wait_s = min(2 * wait_s, _DENIED_CAP_S)
            self._denied[topic] = (now_s + wait_s, wait_s)
            self._careful_until_s = now_s + _CAREFUL_S
        return outcome

    def is_held(self, now_s: float) -> bool:
        """Whether nothing refused for the moment is to be offered again yet."""
        return now_s < self._held_until_s

    def is_careful(self, now_s: float) -> bool:
        """Whether messages of one class go one by one, so that a refused one is not overtaken."""
        return now_s < self._careful_until_s

    def is_denied(self, topic: str, now_s: float) -> bool:
        """Whether rights for a topic are missing, and it is too early to try it again."""
        return topic in self._denied and now_s < self._denied[topic][0]

    def _accepted(self, topic: str) -> None:
        if not self._in_a_row and not self._denied:
            return
        self._in_a_row.pop(topic, None)
        self._denied.pop(topic, None)
        if not self._in_a_row:
            self._backoff.reset()
        else:
            self._accepted_others(topic)

    def _accepted_others(self, topic: str) -> None:
        """Count an acceptance against the topics that are refused meanwhile."""
        for other, count in self._in_a_row.items():
            if other != topic and count >= _STUBBORN:
                self._in_a_row[other] = count + 1

    def _is_stubborn(self, topic: str) -> bool:
        return self._in_a_row.get(topic, 0) > _STUBBORN
