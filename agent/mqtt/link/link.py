"""Link to the broker, which reconnects with a fresh connection each time."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.messages.children import Message
from agent.messages.events import LinkDown, LinkTrouble, LinkUp, Listening, Received
from agent.mqtt.access.denials import Denials
from agent.mqtt.access.rights import Rights
from agent.mqtt.access.subscriptions import Subscriptions
from agent.mqtt.access.topic_filter import TopicFilter
from agent.mqtt.alert_latch import AlertLatch
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.mqtt.link.close_watch import CloseWatch
from agent.mqtt.link.connection import Answered, Connection, LoopLike
from agent.mqtt.link.connection_state import Cause
from agent.mqtt.link.connector import ConnectAttempt, Dialled, SessionUse, close
from agent.mqtt.link.echo_ping import EchoPing
from agent.mqtt.link.graceful_disconnect import ExtraReader, drive_until, finish, leave
from agent.mqtt.link.log_dedup import LogDedup
from agent.mqtt.link.protocol_choice import ProtocolChoice
from agent.mqtt.message import OutgoingMessage
from agent.processes.backoff import Backoff

CONNACK_TIMEOUT_S: Final = 5.0
_FIRST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 5.0
_STEADY_S: Final = 5.0
"""Age at which a connection resets the backoff; else two clients with one id would reconnect without pause."""
_GOODBYE_S: Final = 0.5
"""Timeout in `hold` for the last acknowledgements, and again for the broker's close."""
_log: Final = logging.getLogger(__name__)


class Link:
    """Connects, reconnects, and enqueues events: LinkUp, Listening, LinkDown, LinkTakenOver, Received, Noticed.

    All methods run on the loop's thread; only connecting has its own. `tick` must be called at least each 0.5 s. A
    published message is answered or, once `connection` has another number, lost; then the caller must send it again.
    """

    def __init__(
        self,
        settings: LinkSettings,
        loop: LoopLike,
        put: Callable[[Message], None],
        rng: random.Random | None = None,
    ) -> None:
        self.round_trip_ms: float | None = None
        self._settings: Final = settings
        self._loop: Final = loop
        self._put: Final = put
        self._choice: Final = ProtocolChoice(settings.protocol)
        self._backoff: Final = Backoff(_FIRST_RETRY_S, _LONGEST_RETRY_S, rng or random.Random())  # noqa: S311 - jitter is no secret
        self._folded: Final = LogDedup(_log)
        self._attempts = 0
        self._attempt: ConnectAttempt | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._round_trip = EchoPing(settings.keepalive_s)
        self._connack_by_s = 0.0
        self._up_since_s = 0.0
        self._dial_at_s: float | None = None
        self._tried_since_s: float | None = None
        self._lost_s: float | None = None
        self._starts_clean = False
        notices = AlertLatch(put)
        self._rights: Final = Rights(notices)
        self._denials: Final = Denials()
        self._watch: Final = CloseWatch(settings, notices, self._denials)
        self._listener: Subscriptions | None = None
        self._echoes = True
        self._troubles: Final = LogDedup(_log)

    @property
    def connection(self) -> int:
        """Number of the present connection, counted from 1; 0 without one."""
        return self._number if self.is_up else 0

    @property
    def is_up(self) -> bool:
        """True where the broker accepted us and is not known to be gone."""
        return self._connection is not None and self._connection.life.is_up

    @property
    def in_flight(self) -> int:
        """QoS 1 messages in flight."""
        return 0 if self._connection is None else self._connection.in_flight

    @property
    def window(self) -> int:
        """The limit of `in_flight`."""
        return 0 if self._connection is None else self._connection.window

    @property
    def has_room(self) -> bool:
        """True where one more QoS 1 message may be published."""
        return self._connection is not None and self._connection.has_room

    def start(self) -> None:
        """Start connecting; returns at once."""
        self._dial()

    def handle(self, event: object) -> bool:
        """Handle an event of the loop's inbox; False where it was not the link's."""
        if not isinstance(event, Dialled):
            return False
        attempt = self._attempt
        if attempt is None or event.attempt != attempt.number:
            if event.client is not None:
                close(event.client)
            return True
        self._attempt = None
        attempt.join()
        if event.client is None:
            self._watch.unreachable(event.detail, is_refusal=event.refused)
            self._again(event.detail, at_once=False)
            return True
        self._connack_by_s = time.monotonic() + CONNACK_TIMEOUT_S
        self._listener = None
        self._connection = Connection(event, self._loop, self, self._rights, self._denials, self._settings.ping_topic)
        self._connection.attach()
        return True

    def publish(self, message: OutgoingMessage, answered: Answered | None = None) -> bool:
        """Send now, or return False; QoS 1 needs room in the window, QoS 0 a socket that accepts data."""
        connection = self._connection
        if connection is None or not connection.life.was_accepted:
            return False
        if not (connection.has_room if message.qos else not connection.is_choked):
            return False
        return connection.publish(message, answered)

    def deny(self, topic: str, why: str) -> None:
        """Raise the alert of missing rights for a topic, until a message on it is accepted."""
        self._rights.deny(topic, why)

    def give_up(self, detail: str) -> None:
        """Close without a DISCONNECT, so that the broker sends the will, and reconnect."""
        if self._connection is not None:
            self._drop(self._connection, detail)

    def listen(self, subscriptions: Sequence[TopicFilter]) -> None:
        """Subscribe at QoS 1, as required after each LinkUp; enqueues Listening once the filters deliver."""
        if self._listener is not None and self.is_up:
            self._listener.want(subscriptions, time.monotonic())
            self._ping(time.monotonic())

    def ask_again(self, filter_: str) -> None:
        """Subscribe to a granted filter again, so that the broker resends its retained messages."""
        if self._listener is not None and self.is_up:
            self._listener.ask_again(filter_)

    def tick(self, now_s: float) -> None:
        """Run what is due by `now_s` (time.monotonic): pings, timeouts, the next attempt."""
        self._rights.tell()
        if self._connection is not None:
            self._connection.check()
        if self._connection is not None:
            self._check(self._connection, now_s)
        elif self._dial_at_s is not None and now_s >= self._dial_at_s:
            self._dial()

    def hold(self, seconds: float, owes: Callable[[], bool] = lambda: False, beside: ExtraReader | None = None) -> None:
        """Disconnect without a will, and reconnect after `seconds`; blocks for at most 1 s.

        Before, it waits up to 0.5 s for acknowledgements and until `owes` returns False, and serves `beside`. LinkDown
        is enqueued where the link was connected. A connection that breaks meanwhile cancels the pause, so that pending
        messages are sent on the next one.
        """
        if self._connection is not None and self.is_up:
            # still connected here, because queued messages follow as acknowledgements arrive
            limit_s = time.monotonic() + _GOODBYE_S
            drive_until(self._connection, lambda: not (self.in_flight or owes()), limit_s, beside)
            if self._connection is None:
                return
        self._attempt = None
        self._watch.held()
        connection, self._connection = self._connection, None
        self._dial_at_s = time.monotonic() + seconds
        if connection is None:
            return
        if connection.life.is_up:
            leave(connection, time.monotonic() + _GOODBYE_S)
        connection.drop("held back")
        self.round_trip_ms, self._lost_s = None, time.monotonic()
        self._put(LinkDown(detail=f"held back for {seconds:g} s"))

    def stop(self, last: Sequence[OutgoingMessage], timeout_s: float) -> bool:
        """Send `last`, wait for all acknowledgements, and disconnect without a will.

        Blocks up to `timeout_s`; False: not all was acknowledged, and the broker sends the will.
        """
        deadline_s = time.monotonic() + timeout_s
        self._dial_at_s = None
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.abandon(timeout_s)
        was_up = self.is_up
        connection, self._connection = self._connection, None
        if connection is None:
            return False
        done = was_up and finish(connection, last, deadline_s)
        connection.drop("stopped")
        return done

    # ConnectionListener

    def connection_up(self) -> None:
        """Implement ConnectionListener."""
        connection = self._connection
        if connection is None:
            return
        self._choice.accepted()
        self._number += 1
        self._up_since_s, self._tried_since_s = time.monotonic(), None
        self._round_trip = EchoPing(self._settings.keepalive_s)
        self._folded.over(f"connected to {self._where()}, MQTT {connection.protocol}")
        self._listener = Subscriptions(
            connection,
            self._denials,
            self._rights,
            self._settings.ping_topic,
            lambda: self._put(Listening(self._number)),
            self._up_since_s,
        )
        self._watch.accepted()
        self._put(LinkUp(protocol=connection.protocol))

    def connection_down(self) -> None:
        """Implement ConnectionListener."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        life = connection.life
        if life.cause is Cause.OLD_SESSION:
            # because the messages of an old session are outdated
            self._dial(session="forget")
            return
        at_once = False
        detail = self._watch.ended(connection)
        if life.was_accepted:
            self._lost(connection)
        else:
            at_once = self._choice.failed(unsupported=life.cause is Cause.UNSUPPORTED, answered=life.was_answered)
        self._again(detail, at_once=at_once)

    def subscribed(self, filter_: str, code: int) -> None:
        """Implement ConnectionListener."""
        if self._listener is not None:
            self._listener.answered(filter_, code, time.monotonic())
            self._ping(time.monotonic())

    def heard(self, message: Message) -> None:
        """Implement ConnectionListener."""
        if isinstance(message, LinkTrouble):
            self._troubles.warn(message.detail, time.monotonic())
            if message.too_large:
                self._watch.too_large(message.detail, time.monotonic())
        elif isinstance(message, Received):
            self._round_trip.heard(time.monotonic())
        self._put(message)

    def echoed(self, payload: bytes) -> None:
        """Implement ConnectionListener."""
        self._round_trip.echoed(payload, time.monotonic())
        self.round_trip_ms = self._round_trip.milliseconds
        if self._settings.ping_topic is not None:
            self._rights.grant(self._settings.ping_topic)
        if self._listener is not None and self._round_trip.is_own(payload):
            self._echoes = True
            self._listener.echoed(time.monotonic())

    def _lost(self, connection: Connection) -> None:
        now_s = self._lost_s = time.monotonic()
        self._choice.lost()
        if connection.overflow is not None:
            # because the broker would resend the session's too large message at each connect
            self._starts_clean = True
            self._watch.overflowed(connection.overflow, connection.life.detail, now_s)
        is_steady = now_s - self._up_since_s >= _STEADY_S
        if self._watch.lost(connection, now_s, is_steady=is_steady) or is_steady:
            self._backoff.reset()

    def _check(self, connection: Connection, now_s: float) -> None:
        if not connection.life.was_accepted:
            if now_s > self._connack_by_s:
                self._drop(connection, f"no CONNACK within {CONNACK_TIMEOUT_S:g} s")
            return
        self._watch.tick(self._up_since_s, now_s)
        if self._listener is not None:
            self._listener.tick(now_s, is_echo_expected=self._echoes)
        if now_s - self._up_since_s >= _STEADY_S and (self._listener is None or self._listener.is_done):
            self._watch.steady(now_s)
        if self._round_trip.is_silent(now_s):
            self._echoes = False
            # because a 3.1.1 broker acknowledges messages that it drops for missing rights
            self._rights.deny(self._settings.ping_topic or "", "our own message to ourselves never came back")
        if self._round_trip.is_overdue(now_s, connection.arrived_s):
            self._drop(connection, f"no echo of a ping within {self._settings.keepalive_s} s")
            return
        self._ping(now_s)

    def _ping(self, now_s: float) -> None:
        """Send an echo ping if one is due; repeat it soon until subscriptions are known to deliver."""
        topic, listener, connection = self._settings.ping_topic, self._listener, self._connection
        if topic is None or connection is None or listener is None or not listener.may_ping:
            return
        if payload := self._round_trip.due(now_s, is_eager=not listener.is_done):
            connection.publish(OutgoingMessage(topic, payload, qos=0))

    def _drop(self, connection: Connection, detail: str) -> None:
        connection.drop(detail)
        self.connection_down()

    def _again(self, detail: str, *, at_once: bool) -> None:
        self.round_trip_ms = None
        self._folded.warn(f"no link to {self._where()}: {detail}", time.monotonic())
        self._put(LinkDown(detail=detail))
        if at_once:
            self._dial()
        else:
            # minus the time waited, because a silent broker must not extend the longest retry of 5 s
            now_s = time.monotonic()
            waited_s = now_s - (self._tried_since_s or now_s)
            self._dial_at_s = now_s + max(0.0, self._backoff.next_s() - waited_s)

    def _dial(self, *, session: SessionUse = "fresh") -> None:
        self._dial_at_s, self._tried_since_s = None, time.monotonic()
        self._attempts += 1
        self._denials.connecting(time.monotonic())
        recent = self._lost_s is not None and time.monotonic() - self._lost_s < self._settings.session_s
        if self._starts_clean:
            session = "forget"
        elif recent:
            session = "resume"
        self._starts_clean = False
        self._attempt = ConnectAttempt(
            self._attempts, self._settings, self._choice.current, self._loop.put, session=session
        )
        self._attempt.start()

    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"
