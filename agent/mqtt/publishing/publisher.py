"""Publisher of states, events, detections and live values, each with its own delivery guarantee."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Final, Literal, Protocol

from agent.messages.topics import Topics
from agent.mqtt.endpoint.connect_errors import Outcome
from agent.mqtt.link.connection import Answered, LoopLike
from agent.mqtt.link.graceful_disconnect import ExtraReader
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind, OutboxItem
from agent.mqtt.publishing.ack_rate import AckRate
from agent.mqtt.publishing.heartbeats import Heartbeats
from agent.mqtt.publishing.replay_rate import ReplayRateLimiter
from agent.mqtt.publishing.retained_states import READY_ZERO_S, Standing
from agent.mqtt.publishing.retry_backoff import Retries
from agent.mqtt.publishing.send_queue import Heartbeat, Live, SendQueue

_STATES_LIMIT: Final = 1024
"""Bound on queued states; beyond it only the newest value of each topic waits."""
_REPLAYING: Final = 4
"""Limit of replayed messages in flight; low, because a slow link sends them before live ones."""
_PLURAL: Final = {Kind.EVENT: "events", Kind.SUMMARY: "summaries", Kind.DETECTION: "detections"}
Keep = Literal["offline", "always", "never"]  # values of the setting `[outbox] detections`


class Sending(Protocol):
    """The part of the link that a publisher needs."""

    @property
    def connection(self) -> int:
        """Number of the present connection; 0 without one."""

    @property
    def in_flight(self) -> int:
        """QoS 1 messages in flight."""

    @property
    def window(self) -> int:
        """The limit of `in_flight`."""

    @property
    def has_room(self) -> bool:
        """True where one more QoS 1 message may be sent."""

    def publish(self, message: OutgoingMessage, answered: Answered | None = None) -> bool:
        """Send now; False where that is impossible."""

    def deny(self, topic: str, why: str) -> None:
        """Record that the broker denies messages on a topic."""

    def give_up(self, detail: str) -> None:
        """Close without a DISCONNECT, so that the broker sends the will, and reconnect."""

    def hold(self, seconds: float, owes: Callable[[], bool], beside: ExtraReader | None) -> None:
        """Disconnect for `seconds` once `owes` returns False; serve `beside` while waiting."""

    def stop(self, last: Sequence[OutgoingMessage], timeout_s: float) -> bool:
        """Send `last`, wait for acknowledgement, disconnect."""


class Publisher:
    """Publisher of everything that control sends; for the loop's thread.

    It sends only after `announce`, which is required at each LinkUp, after subscribing. States, live detections and new
    values of `live` keep their order; a detection without room in the window for a second (`SendQueue`) goes to the
    outbox, and later to the replay topic. A new connection starts with the present retained values, never older ones.
    `detections`: `always` sends a detection once it is on disk; `offline` sends it from memory, and the outbox writes
    those that are not acknowledged soon; `never` drops what cannot go live.
    """

    def __init__(self, link: Sending, topics: Topics, outbox: Outbox, detections: Keep = "offline") -> None:
        self.states_folded = 0
        self.states_refused = 0
        self._refused: Final = dict.fromkeys(Kind, 0)
        self._dropped: Final = dict.fromkeys(Kind, 0)
        self._link: Final = link
        self._topics: Final = topics
        self._outbox: Final = outbox
        self._keep: Final = detections
        self._retries: Final = Retries()
        self._standing: Final = Standing(topics, self._retries)
        self._wire: Final = SendQueue()
        self._heartbeats: Final = Heartbeats(link.publish, self._wire)
        self._connection = 0
        self._announced = False
        self._replaying = 0
        self._pace: Final = ReplayRateLimiter()
        self._rate: Final = AckRate()
        outbox.on_change = self._pump

    def start(self, loop: LoopLike) -> None:
        """Open the outbox's file; returns at once."""
        self._outbox.start(loop)

    def send_state(self, topic: str, payload: bytes) -> None:
        """Set a retained value, unless it is unchanged; an empty one clears the topic."""
        self._look()
        if self._standing.truth.get(topic) == payload:
            return
        self._standing.truth[topic] = payload
        if not self._announced:
            return
        self._demote(self._wire.take_unwritten())  # because a state must not wait for the disk
        self._wire.add_state(self._standing.changed(topic, monotonic()))
        if self._wire.states > _STATES_LIMIT:
            self.states_folded += self._wire.states
            self.announce()
        self._pump()

    def send_event(self, topic: str, payload: bytes, correlation: bytes | None = None) -> None:
        """Send at QoS 1, kept until the broker acknowledges it."""
        self._look()
        self._outbox.keep(Kind.EVENT, OutgoingMessage(topic, payload, correlation=correlation))
        self._pump()

    def send_detection(self, stream: str, payload: bytes) -> None:
        """Send a detection live, or keep it for the stream's replay topic."""
        self._look()
        live = OutgoingMessage(self._topics.of_stream(stream, "detections"), payload)
        later = OutgoingMessage(self._topics.of_stream(stream, "replay"), payload)
        is_refused = self._retries.is_held(monotonic()) or self._retries.is_denied(live.topic, monotonic())
        if not self._announced or is_refused or not (self._may_go_live or self._wire.takes(live)):
            self._later(later)
            return
        waiting = Live(live, monotonic())
        if (self._keep == "always" or (self._keep == "offline" and self._is_in_doubt)) and self._outbox.can_write:
            waiting.is_written = False
            waiting.entry = self._outbox.track_in_flight_once_written(Kind.DETECTION, later, partial(_written, waiting))
        elif self._keep != "never":
            waiting.entry = self._outbox.track_in_flight(Kind.DETECTION, later)
        if waiting.is_written and self._may_go_live:
            self._go_live(waiting)
        else:
            self._wire.add_live(waiting)

    def send_summary(self, stream: str, payload: bytes) -> None:
        """Send a summary behind earlier ones; live and replayed ones share a topic."""
        self._look()
        message = OutgoingMessage(self._topics.of_stream(stream, "summary"), payload)
        if self._keep != "never":
            self._outbox.keep(Kind.SUMMARY, message)
            self._pump()
            return
        answered = partial(self._unkept_answered, Kind.SUMMARY, message)
        if not (self._may_go_live and self._link.publish(message, answered)):
            self._dropped[Kind.SUMMARY] += 1

    def send_live(self, topic: str, payload: bytes) -> None:
        """Send at QoS 0, or drop it; see `Heartbeats`."""
        self._look()
        if self._announced:
            self._heartbeats.offer(topic, payload)
        else:
            self._heartbeats.drop()

    def announce(self) -> None:
        """Send every retained value: each line's `ready` first, the device's `status` last.

        `status` waits until the broker has accepted each `ready`.
        """
        self._look()
        is_fresh, self._announced = not self._announced, self._connection != 0
        if self._announced:
            self._demote(self._wire.clear())
            for message in self._standing.begin(monotonic(), is_fresh=is_fresh):
                self._wire.add_state(message)
            self._pump()

    def tick(self) -> None:
        """Expire old messages, write unacknowledged ones to disk, and continue sending; call each 0.5 s."""
        self._look()
        self._give_up_if_due()
        self._demote(self._wire.take_late(monotonic()))
        self._outbox.tick(is_in_doubt=self._is_in_doubt)
        if not self._outbox.can_write:
            # sent unwritten, because the disk hangs
            for live in self._wire.unwritten():
                _written(live)
        self._pump()
        is_full = self._link.in_flight > self._link.window // 2
        is_behind = self._announced and (bool(self._wire) or (self._outbox.has_unsent and is_full))
        self._rate.look(monotonic(), is_behind=is_behind and not self._retries.is_careful(monotonic()))

    def counters(self) -> dict[str, int]:
        """Return the waiting, dropped and refused messages by kind, and the outbox's bytes, in all and on disk."""
        outbox = self._outbox
        dropped = {f"{_PLURAL[kind]}_dropped": outbox.dropped(kind) + self._dropped[kind] for kind in Kind}
        return {
            **{_PLURAL[kind]: outbox.depth(kind) for kind in Kind},
            "bytes": outbox.size_bytes,
            "disk_bytes": outbox.disk_bytes,
            **dropped,
            "live_dropped": self._heartbeats.dropped,
            **{f"{_PLURAL[kind]}_refused": self._refused[kind] for kind in Kind},
            "states_refused": self.states_refused,
        }

    @property
    def oldest_age_s(self) -> float:
        """Age of the oldest unacknowledged message; 0 without one."""
        return self._outbox.oldest_age_s

    def acknowledged_kbps(self, now_s: float) -> float | None:
        """Return the rate of acknowledgements in kbit/s; None unless messages waited for the link for 5 s.

        Messages of the outbox count as waiting only while the window is over half full, because their own rate is
        limited. `now_s` is time.monotonic.
        """
        return self._rate.kbps(now_s)

    def hold(self, seconds: float) -> None:
        """Send what is pending, including events not yet on disk, and disconnect for `seconds`; see `Link.hold`."""
        self._look()
        if self._connection and not self._announced:
            # because a duplicate device must hear of us, too
            self.announce()
        self._link.hold(seconds, lambda: self._outbox.depth(Kind.EVENT) > 0, self._outbox.disk_answers)

    def stop(self, last: Sequence[tuple[str, bytes]], timeout_s: float) -> bool:
        """Send the last retained values (`ready` 0 of each line, then `status`), and disconnect once acknowledged.

        Returns False where `timeout_s` passed before. Unacknowledged messages are on disk when this returns.
        """
        self._demote(self._wire.clear())
        self._standing.truth.update(last)
        done = self._link.stop([OutgoingMessage(topic, payload, retain=True) for topic, payload in last], timeout_s)
        self._outbox.stop()
        return done

    @property
    def _is_in_doubt(self) -> bool:
        """True where no message may stay in memory alone: the broker is away, refuses, or answers late."""
        return not self._announced or self._outbox.answers_are_late or self._retries.is_careful(monotonic())

    @property
    def _may_go_live(self) -> bool:
        return self._announced and not self._wire and self._link.has_room

    def _look(self) -> None:
        """Detect a new connection: messages in flight are requeued, and states must be announced again."""
        if self._link.connection == self._connection:
            self._heartbeats.send_owed()
            return
        self._connection = self._link.connection
        self._announced = False
        self._heartbeats.begin()
        self._replaying = 0
        self._dropped[Kind.DETECTION] += sum(live.entry is None for live in self._wire.clear())
        self._outbox.back()
        self._outbox.secure()
        self._retries.begin()

    def _give_up_if_due(self) -> None:
        topic = self._standing.overdue(monotonic()) if self._announced else None
        if topic is not None:
            self._link.give_up(f"{topic}: `ready` 0 was not accepted within {READY_ZERO_S:g} s")
            self._look()

    def _pump(self) -> None:
        self._heartbeats.send_owed()
        while self._announced and self._link.has_room:
            for message in self._standing.due(monotonic()):
                self._wire.add_state(message)
            # before detections, because acks must not wait behind them
            if not self._wire.states and self._send_next(Kind.EVENT):
                continue
            first = self._wire.next()
            if isinstance(first, Live):
                self._go_live(first)
            elif isinstance(first, Heartbeat):
                self._heartbeats.send(first.message)
            elif first is not None:
                self._link.publish(first, partial(self._state_answered, first))
            elif self._wire.states or not self._send_next(Kind.SUMMARY):
                break
        self._replay()
        if self._is_in_doubt:
            self._outbox.secure()

    def _replay(self) -> None:
        """Send kept detections; live messages have priority, and half of the window to themselves."""
        while self._announced and not self._wire.states and self._link.has_room:
            others = self._link.in_flight - self._replaying
            if self._replaying >= min(_REPLAYING, max(1, self._link.window // 2) - others):
                return
            entry = self._next(Kind.DETECTION) if self._pace.may_send(monotonic()) else None
            if entry is None:
                return
            self._pace.sent()
            self._replaying += 1
            if not self._link.publish(entry.message, partial(self._replay_answered, entry)):
                return

    def _next(self, kind: Kind) -> OutboxItem | None:
        now_s = monotonic()
        if self._retries.is_held(now_s):
            return None
        return self._outbox.next(kind, lambda topic: self._retries.is_denied(topic, now_s))

    def _send_next(self, kind: Kind) -> bool:
        entry = self._next(kind)
        return entry is not None and self._link.publish(entry.message, partial(self._kept_answered, entry))

    def _go_live(self, live: Live) -> None:
        if live.entry is None:
            answered: Answered = partial(self._unkept_answered, Kind.DETECTION, live.message)
        else:
            answered = partial(self._live_answered, live.entry, live.message.topic)
        if not self._link.publish(live.message, answered):
            self._demote([live])
            self._look()

    def _later(self, message: OutgoingMessage) -> None:
        if self._keep == "never":
            self._dropped[Kind.DETECTION] += 1
        else:
            self._outbox.keep(Kind.DETECTION, message)
            self._outbox.secure()

    def _demote(self, lives: Iterable[Live]) -> None:
        """Requeue detections that could not go live for the replay topic; drop those that the outbox does not keep."""
        for live in lives:
            if live.entry is None:
                self._dropped[Kind.DETECTION] += 1
            else:
                self._outbox.release(live.entry)

    # answers of the broker

    def _state_answered(self, message: OutgoingMessage, outcome: Outcome) -> None:
        self.states_refused += outcome is not Outcome.ACCEPTED
        self._standing.answered(message, self._noted(message.topic, outcome))
        self._rate.arrived(message.size_bytes)
        self._pump()

    def _live_answered(self, entry: OutboxItem, topic: str, outcome: Outcome) -> None:
        outcome = self._noted(topic, outcome)
        if outcome in {Outcome.LATER, Outcome.DENIED}:
            self._requeue(entry)
        else:
            self._settle(entry, outcome)

    def _kept_answered(self, entry: OutboxItem, outcome: Outcome) -> None:
        topic = entry.message.topic
        if outcome is Outcome.DENIED and not self._topics.is_own(topic):
            # dropped, because a client's own response topic may never be granted to us
            outcome = Outcome.NEVER
        outcome = self._noted(topic, outcome)
        if outcome in {Outcome.LATER, Outcome.DENIED}:
            self._requeue(entry)
        else:
            self._settle(entry, outcome)

    def _replay_answered(self, entry: OutboxItem, outcome: Outcome) -> None:
        self._replaying -= 1
        self._kept_answered(entry, outcome)

    def _requeue(self, entry: OutboxItem) -> None:
        self._refused[entry.kind] += 1
        self._outbox.release(entry)
        self._pump()

    def _unkept_answered(self, kind: Kind, message: OutgoingMessage, outcome: Outcome) -> None:
        self._noted(message.topic, outcome)
        if outcome is not Outcome.ACCEPTED:
            self._refused[kind] += 1
            self._dropped[kind] += 1
        self._rate.arrived(message.size_bytes)
        self._pump()

    def _settle(self, entry: OutboxItem, outcome: Outcome) -> None:
        """Remove a message that the broker has acknowledged, or that no broker will ever accept."""
        if outcome is Outcome.NEVER:
            self._refused[entry.kind] += 1
            self._dropped[entry.kind] += 1
        self._outbox.acknowledged(entry)
        self._rate.arrived(entry.message.size_bytes)
        self._pump()

    def _noted(self, topic: str, outcome: Outcome) -> Outcome:
        # urgent, because a plant runs or stands by these two
        is_urgent = self._topics.is_ready(topic) or topic == self._topics.status
        noted = self._retries.answered(topic, outcome, monotonic(), is_urgent=is_urgent)
        if noted is not outcome:
            self._link.deny(topic, "the broker refuses its messages again and again, and takes others")
        return noted


def _written(live: Live) -> None:
    """Mark a detection as written to disk, so that it may be sent next."""
    live.is_written, live.since_s = True, monotonic()
