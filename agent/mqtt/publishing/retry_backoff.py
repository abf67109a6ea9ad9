"""Retry backoff for messages that the broker refused; for one thread. All times are of time.monotonic."""

import random
from typing import Final

from agent.mqtt.endpoint.connect_errors import Outcome
from agent.processes.backoff import Backoff

_FIRST_S: Final = 0.2
_CAP_S: Final = 2.0
"""Longest backoff, well below the 5 s in which a `ready` 0 must be accepted."""
_DENIED_FIRST_S: Final = 30.0
_DENIED_CAP_S: Final = 600.0
_URGENT_DENIED_S: Final = 10.0
"""Retry interval of a denied urgent topic, equal to that of `ready` and `status` in access/denials.py."""
_CAREFUL_S: Final = 60.0
"""Time after a refusal for which the link counts as in doubt."""
_STUBBORN: Final = 8
"""Number of refusals in a row, while others are accepted, after which a topic counts as denied."""


class Retries:
    """Backoffs for refusals: a common one for temporary refusals, one for each denied topic."""

    def __init__(self, chance: random.Random | None = None) -> None:
        self._backoff: Final = Backoff(_FIRST_S, _CAP_S, chance)
        self._held_until_s = 0.0
        self._careful_until_s = 0.0
        self._in_a_row: Final[dict[str, int]] = {}
        self._denied: Final[dict[str, tuple[float, float]]] = {}

    def begin(self) -> None:
        """Reset the backoffs for a new connection, but not `is_careful`."""
        self._backoff.reset()
        self._held_until_s = 0.0
        self._in_a_row.clear()
        self._denied.clear()

    def answered(self, topic: str, outcome: Outcome, now_s: float, *, is_urgent: bool = False) -> Outcome:
        """Record an answer; return it, or DENIED for a topic that alone is refused repeatedly.

        An `is_urgent` topic is retried each 2 s while the broker refuses it temporarily, else each 10 s.
        """
        cap_s = _DENIED_CAP_S
        if is_urgent:
            cap_s = _CAP_S if outcome is Outcome.LATER else _URGENT_DENIED_S
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
            _, wait_s = self._denied.get(topic, (0.0, 0.0))
            wait_s = min(max(2 * wait_s, _DENIED_FIRST_S), cap_s)
            self._denied[topic] = (now_s + wait_s, wait_s)
            self._careful_until_s = now_s + _CAREFUL_S
        return outcome

    def is_held(self, now_s: float) -> bool:
        """Return True while temporary refusals delay all retries."""
        return now_s < self._held_until_s

    def is_careful(self, now_s: float) -> bool:
        """Return True for some time after a refusal."""
        return now_s < self._careful_until_s

    def is_denied(self, topic: str, now_s: float) -> bool:
        """Return True while it is too early to retry a denied topic."""
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
        """Let other topics at the limit of refusals count as denied, because the broker accepted this one."""
        for other, count in self._in_a_row.items():
            if other != topic and count >= _STUBBORN:
                self._in_a_row[other] = count + 1

    def _is_stubborn(self, topic: str) -> bool:
        return self._in_a_row.get(topic, 0) > _STUBBORN
