"""Subscriptions of one connection: requested, retried, and checked by an echo of the agent's own ping.

All times are of time.monotonic.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.mqtt.access.denials import UNSUBSCRIBE, Denials, subscribe
from agent.mqtt.access.rights import Rights
from agent.mqtt.access.topic_filter import TopicFilter
from agent.mqtt.endpoint.connect_errors import NO_QOS_1, Outcome, outcome_of
from agent.mqtt.endpoint.link_settings import ProtocolVersion

ECHO_S: Final = 3.0
"""Timeout of the echo that shows that subscriptions deliver; after it the agent continues without one."""
_ANSWER_S: Final = 10.0
"""Time to wait for a SUBACK, and for a filter that the broker refuses temporarily."""
_NO_REASON_S: Final = 2.0
"""Time to wait for a refused filter in MQTT 3.1.1, where the code 0x80 may also mean missing rights."""
_FIRST_S: Final = 0.25
_CAP_S: Final = 30.0
_TOLD_AFTER: Final = 3
_NO_WILDCARDS: Final = 0xA2
_FAILURE: Final = 0x80


class Asking(Protocol):
    """The part of a connection that subscriptions need."""

    @property
    def protocol(self) -> ProtocolVersion:
        """The MQTT version in use."""

    def subscribe(self, topic: str) -> None:
        """Send a SUBSCRIBE."""

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Send an UNSUBSCRIBE."""

    def refuse(self, why: str) -> None:
        """End the connection for a fault that needs a change at the broker."""


@dataclass
class _Refusal:
    attempts: int
    again_s: float
    is_awaited: bool


class Subscriptions:
    """Sends subscriptions, that of the ping topic last, and calls `done` once they deliver. For one thread."""

    def __init__(  # noqa: PLR0913, PLR0917 - parts of one link
        self,
        connection: Asking,
        denials: Denials,
        rights: Rights,
        ping_topic: str | None,
        done: Callable[[], None],
        now_s: float,
    ) -> None:
        self.is_done = False
        self._connection: Final = connection
        self._denials: Final = denials
        self._rights: Final = rights
        self._ping_topic: Final = ping_topic
        self._done: Final = done
        self._since_s: Final = now_s
        self._wanted: Final[dict[str, TopicFilter]] = {}
        self._queue: Final[deque[str]] = deque()
        self._pending: Final[dict[str, float]] = {}
        self._refused: Final[dict[str, _Refusal]] = {}
        self._granted: Final[set[str]] = set()
        self._avoided: Final[set[str]] = set()
        self._left_out: Final[set[str]] = set()
        self._settled_s: float | None = None
        self._is_asked = False

    @property
    def may_ping(self) -> bool:
        """True once no answer to a subscription is waited for any more."""
        return self._settled_s is not None

    def want(self, subscriptions: Iterable[TopicFilter], now_s: float) -> None:
        """Request filters that were not requested yet."""
        last = [TopicFilter(self._ping_topic)] if self._ping_topic is not None else []
        for one in [*subscriptions, *last]:
            self._add(one, now_s)
        self._is_asked = True
        self._go_on(now_s)

    def ask_again(self, filter_: str) -> None:
        """Subscribe to a granted filter again, so that the broker resends its retained messages."""
        wanted = self._wanted.get(filter_)
        for one in [filter_] if filter_ in self._granted or wanted is None else wanted.instead:
            if one in self._granted:
                self._connection.subscribe(one)

    def answered(self, filter_: str, code: int, now_s: float) -> None:
        """Handle a SUBACK; `code` is the granted QoS, or 0x80 and more for a refusal."""
        self._pending.pop(filter_, None)
        wanted = self._wanted.get(filter_)
        if wanted is None:
            return
        if code == 0 and not wanted.is_passing and filter_ != self._ping_topic:
            self._connection.refuse(NO_QOS_1)
            return
        if code < _FAILURE:
            self._granted.add(filter_)
            self._refused.pop(filter_, None)
            self._rights.grant(filter_)
            if self.is_done and wanted.is_passing:
                self._leave(now_s)
        else:
            self._refuse(wanted, code, now_s)
        self._go_on(now_s)

    def echoed(self, now_s: float) -> None:
        """Record an echo of the ping, which shows that granted subscriptions deliver."""
        if self.may_ping:
            self._finish(now_s)

    def tick(self, now_s: float, *, is_echo_expected: bool) -> None:
        """Retry refused filters and end timeouts; must be called at least each 0.5 s."""
        for filter_, refusal in self._refused.items():
            is_over = self.is_done and self._wanted[filter_].is_passing
            if now_s >= refusal.again_s and not is_over and filter_ not in {*self._pending, *self._queue}:
                self._queue.append(filter_)
        self._try_avoided(now_s)
        for filter_, since_s in self._pending.items():
            if now_s - since_s > _ANSWER_S:
                self._rights.deny(filter_, "the broker does not answer a subscription")
        self._go_on(now_s)
        is_proof_due = is_echo_expected and self._ping_topic in self._granted
        if self._settled_s is not None and now_s - self._settled_s > (ECHO_S if is_proof_due else 0.0):
            self._finish(now_s)

    def _add(self, wanted: TopicFilter, now_s: float) -> None:
        if wanted.filter_ in self._wanted:
            return
        self._wanted[wanted.filter_] = wanted
        if self._denials.overflows.brings(wanted.filter_, now_s):
            if not wanted.instead:
                self._avoided.add(wanted.filter_)
            self._replace(wanted, now_s)
            return
        is_left_out = self._denials.refuses(subscribe(wanted.filter_), now_s)
        if not is_left_out and (self._denials.has_wildcards or not wanted.has_wildcard):
            self._queue.append(wanted.filter_)
            return
        if is_left_out and not wanted.instead:
            self._left_out.add(wanted.filter_)
        self._replace(wanted, now_s)

    def _replace(self, wanted: TopicFilter, now_s: float) -> None:
        for topic in wanted.instead:
            self._add(TopicFilter(topic), now_s)

    def _try_avoided(self, now_s: float) -> None:
        """Subscribe again to filters without a replacement, once the time for which they are left out is over."""
        due = {one for one in self._avoided if not self._denials.overflows.brings(one, now_s)}
        due |= {one for one in self._left_out if not self._denials.refuses(subscribe(one), now_s)}
        self._avoided.difference_update(due)
        self._left_out.difference_update(due)
        for filter_ in sorted(due):
            if not (self.is_done and self._wanted[filter_].is_passing):
                self._queue.append(filter_)

    def _refuse(self, wanted: TopicFilter, code: int, now_s: float) -> None:
        filter_, outcome = wanted.filter_, outcome_of(code)
        why = f"the broker refused a subscription: 0x{code:02X}"
        if code == _NO_WILDCARDS:
            self._denials.takes_no_wildcards(now_s)
            self._replace(wanted, now_s)
            return
        if outcome is Outcome.DENIED:
            self._rights.deny(filter_, why)
        if wanted.has_wildcard and (outcome is not Outcome.LATER or self._connection.protocol != "5"):
            self._replace(wanted, now_s)
        before = self._refused.get(filter_)
        attempts = 1 if before is None else before.attempts + 1
        is_awaited = outcome is Outcome.LATER and not wanted.is_passing
        wait_s = min(_FIRST_S * 2 ** min(attempts - 1, 10), _CAP_S) if outcome is Outcome.LATER else _CAP_S
        self._refused[filter_] = _Refusal(attempts, now_s + wait_s, is_awaited)
        is_replaced = wanted.has_wildcard and bool(wanted.instead) and self._connection.protocol != "5"
        if is_awaited and attempts >= _TOLD_AFTER and not is_replaced:
            self._rights.deny(filter_, why)

    def _go_on(self, now_s: float) -> None:
        while self._queue and not (self._denials.is_careful and self._has_pending(now_s)):
            filter_ = self._queue.popleft()
            self._pending[filter_] = now_s
            self._connection.subscribe(filter_)
        if self._settled_s is None and self._is_settled(now_s):
            self._settled_s = now_s
            if self._ping_topic is None:
                self._finish(now_s)

    def _has_pending(self, now_s: float) -> bool:
        return any(now_s - since_s <= _ANSWER_S for since_s in self._pending.values())

    def _is_settled(self, now_s: float) -> bool:
        if not self._is_asked or self._queue or self._has_pending(now_s):
            return False
        patience_s = _ANSWER_S if self._connection.protocol == "5" else _NO_REASON_S
        is_patient = now_s - self._since_s < patience_s
        return not (is_patient and any(one.is_awaited for one in self._refused.values()))

    def _finish(self, now_s: float) -> None:
        if not self.is_done:
            self.is_done = True
            self._leave(now_s)
            self._done()

    def _leave(self, now_s: float) -> None:
        """Unsubscribe from filters with `is_passing`, because the agent itself publishes there from now on."""
        if self._denials.refuses(UNSUBSCRIBE, now_s):
            return
        passing = [one for one in self._granted if self._wanted[one].is_passing]
        self._granted.difference_update(passing)
        if passing:
            self._connection.unsubscribe(passing)
