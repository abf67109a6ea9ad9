"""The link to the broker: always being made, or up. A fresh connection each time, nothing carried over in secret."""

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Final

from agent.messages.children import Message
from agent.messages.events import LinkDown, LinkTakenOver, LinkTrouble, LinkUp, Received
from agent.mqtt.connection import Acknowledged, Connection, LoopLike
from agent.mqtt.dial import Attempt, Dialled, SessionUse, close
from agent.mqtt.farewell import Beside, drive_until, finish, leave
from agent.mqtt.folded_log import FoldedLog
from agent.mqtt.link_settings import LinkSettings
from agent.mqtt.notices import BROKER_REFUSED, RIGHTS_MISSING, Notices
from agent.mqtt.outgoing import Outgoing
from agent.mqtt.protocol_choice import ProtocolChoice
from agent.mqtt.refusals import CERTIFICATE_REFUSED, is_refused_certificate
from agent.mqtt.round_trip import RoundTrip
from agent.processes.backoff import Backoff

CONNACK_TIMEOUT_S: Final = 5.0
_FIRST_RETRY_S: Final = 0.5
_LONGEST_RETRY_S: Final = 5.0
_STEADY_S: Final = 5.0
"""A connection that stood for so long starts the back-off anew; two clients of one id must not fight without it."""
_SHORT_LIVES: Final = 2
"""So many connections in a row that the broker closed soon, and was there again at once: somebody else has our id."""
_GOODBYE_S: Final = 0.5
"""How long `hold` may wait for the last acknowledgements, and then for the broker's close."""
_log: Final = logging.getLogger(__name__)


class Link:
    """Connects, connects again, and says so by `put`: LinkUp, LinkDown, LinkTakenOver, Received, LinkTrouble, Noticed.

    Everything is called on the loop's thread; only dialling has one of its own. `tick` is owed at least each 0.5 s.
    A message that `publish` took is acknowledged or, once `connection` is another number, lost: who keeps it, sends it
    again.
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
        self._folded: Final = FoldedLog(_log)
        self._attempts = 0
        self._attempt: Attempt | None = None
        self._connection: Connection | None = None
        self._number = 0
        self._round_trip = RoundTrip(settings.keepalive_s)
        self._connack_by_s = 0.0
        self._up_since_s = 0.0
        self._dial_at_s: float | None = None
        self._tried_since_s: float | None = None
        self._lost_s: float | None = None
        self._short_lives = 0
        self._notices: Final = Notices(put)
        self._troubles: Final = FoldedLog(_log)

    @property
    def connection(self) -> int:
        """Which connection is up, counted from 1; 0 while none is."""
        return self._number if self.is_up else 0

    @property
    def is_up(self) -> bool:
        """Whether the broker accepted us and is not known to be gone."""
        return self._connection is not None and self._connection.accepted and self._connection.ended is None

    @property
    def in_flight(self) -> int:
        """QoS 1 messages that the broker has not answered."""
        return 0 if self._connection is None else self._connection.in_flight

    @property
    def window(self) -> int:
        """How many `in_flight` may be."""
        return 0 if self._connection is None else self._connection.window

    @property
    def has_room(self) -> bool:
        """Whether one more QoS 1 message may be published now."""
        return self._connection is not None and self._connection.has_room

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._dial()

    def handle(self, event: object) -> bool:
        """Take an event of the loop's inbox; False: it was not the link's."""
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
            self._short_lives = 0
            self._refused(event.detail, is_refusal=event.refused)
            self._again(event.detail, at_once=False)
            return True
        self._connack_by_s = time.monotonic() + CONNACK_TIMEOUT_S
        self._connection = Connection(event, self._loop, self, self._settings.ping_topic)
        self._connection.attach()
        return True

    def publish(self, message: Outgoing, acknowledged: Acknowledged | None = None) -> bool:
        """Send now, or return False: nothing is queued here.

        At QoS 1 there must be room in the window, and `acknowledged` is called when the broker answered. QoS 0 is not
        sent while the socket takes no more.
        """
        connection = self._connection
        if connection is None or not connection.accepted:
            return False
        if not (connection.has_room if message.qos else not connection.is_choked):
            return False
        return connection.publish(message, acknowledged)

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe at QoS 1, on this connection; owed anew at each LinkUp."""
        if self._connection is not None and self.is_up:
            self._connection.subscribe(topics)

    def tick(self, now_s: float) -> None:
        """Do what is due by `now_s` (time.monotonic): pings, time-outs, the next attempt."""
        if self._connection is not None:
            self._connection.check()
        if self._connection is not None:
            self._check(self._connection, now_s)
        elif self._dial_at_s is not None and now_s >= self._dial_at_s:
            self._dial()

    def hold(self, seconds: float, owes: Callable[[], bool] = lambda: False, beside: Beside | None = None) -> None:
        """Leave the broker by a DISCONNECT (no will is sent), and do not connect again before `seconds` have passed.

        What was published is acknowledged before, as far as 0.5 s allow, and what `owes` says is still to come, while
        `beside` is heard; with a silent broker this blocks for 1 s.
        LinkDown is put where a connection stood. One that breaks meanwhile holds nothing back: what was to be said
        comes on the next, at once, and the reason to hold back shows itself there again.
        """
        if self._connection is not None and self.is_up:
            # still ours: what waited for room follows as acknowledgements come
            limit_s = time.monotonic() + _GOODBYE_S
            drive_until(self._connection, lambda: not (self.in_flight or owes()), limit_s, beside)
            if self._connection is None:
                return
        self._attempt = None
        self._short_lives = 0
        connection, self._connection = self._connection, None
        self._dial_at_s = time.monotonic() + seconds
        if connection is None:
            return
        if connection.accepted and connection.ended is None:
            leave(connection, time.monotonic() + _GOODBYE_S)
        connection.end("held back")
        self.round_trip_ms, self._lost_s = None, time.monotonic()
        self._put(LinkDown(detail=f"held back for {seconds:g} s"))

    def stop(self, last: Sequence[Outgoing], timeout_s: float) -> bool:
        """Send `last`, wait until everything is acknowledged, and disconnect so that the will is not sent.

        Blocks up to `timeout_s`; False: it was not all acknowledged, and the broker sends the will.
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
        connection.end("stopped")
        return done

    # what a Connection tells its owner

    def connection_up(self) -> None:
        """See owner.Owner."""
        connection = self._connection
        if connection is None:
            return
        self._choice.accepted()
        self._number += 1
        self._up_since_s, self._tried_since_s = time.monotonic(), None
        self._round_trip = RoundTrip(self._settings.keepalive_s)
        self._folded.over(f"connected to {self._where()}, MQTT {connection.protocol}")
        if self._settings.ping_topic is not None:
            connection.subscribe([self._settings.ping_topic])
        self._notices.off(BROKER_REFUSED)
        self._notices.off(RIGHTS_MISSING)
        self._put(LinkUp(protocol=connection.protocol))
        if self._short_lives >= _SHORT_LIVES:
            # Few brokers say so: they close on the older of two clients of one id, and are there all the time. After
            # LinkUp: whoever stands back for that says the truth before.
            self._put(LinkTakenOver())

    def connection_down(self) -> None:
        """See owner.Owner."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if connection.found_session:
            # what it holds is too old to be meant
            self._dial(session="forget")
            return
        at_once = False
        detail = connection.ended or "the connection is lost"
        is_refusal = connection.refused
        if self._settings.tls is not None and not connection.answered and is_refused_certificate(detail):
            detail, is_refusal = CERTIFICATE_REFUSED, True
        if connection.accepted:
            self._lost(connection)
        else:
            at_once = self._choice.failed(unsupported=connection.unsupported, answered=connection.answered)
        self._refused(detail, is_refusal=is_refusal)
        self._again(detail, at_once=at_once)

    def heard(self, message: Message) -> None:
        """See owner.Owner."""
        if isinstance(message, LinkTrouble):
            self._troubles.warn(message.detail, time.monotonic())
            if message.refused:
                self._notices.on(RIGHTS_MISSING, message.detail)
        elif isinstance(message, Received):
            self._round_trip.heard(time.monotonic())
        self._put(message)

    def echoed(self, payload: bytes) -> None:
        """See owner.Owner."""
        self._round_trip.echoed(payload, time.monotonic())
        self.round_trip_ms = self._round_trip.milliseconds

    def _lost(self, connection: Connection) -> None:
        now_s = self._lost_s = time.monotonic()
        self._choice.lost()
        is_steady = now_s - self._up_since_s >= _STEADY_S
        self._short_lives = 0 if is_steady or not connection.was_closed else self._short_lives + 1
        if is_steady:
            self._backoff.reset()

    def _refused(self, detail: str, *, is_refusal: bool) -> None:
        if is_refusal:
            self._notices.on(BROKER_REFUSED, detail)

    def _check(self, connection: Connection, now_s: float) -> None:
        if not connection.accepted:
            if now_s > self._connack_by_s:
                self._drop(connection, f"no CONNACK within {CONNACK_TIMEOUT_S:g} s")
            return
        if self._round_trip.is_silent(now_s):
            # in 3.1.1 a broker answers what it drops for want of rights as if it took it
            topic = self._settings.ping_topic
            self._notices.on(RIGHTS_MISSING, f"{topic}: our own message to ourselves never came back")
        if self._round_trip.is_overdue(now_s, connection.arrived_s):
            self._drop(connection, f"no echo of a ping within {self._settings.keepalive_s} s")
            return
        if self._settings.ping_topic is not None and (payload := self._round_trip.due(time.monotonic())):
            connection.publish(Outgoing(self._settings.ping_topic, payload, qos=0))

    def _drop(self, connection: Connection, detail: str) -> None:
        connection.end(detail)
        self.connection_down()

    def _again(self, detail: str, *, at_once: bool) -> None:
        self.round_trip_ms = None
        self._folded.warn(f"no link to {self._where()}: {detail}", time.monotonic())
        self._put(LinkDown(detail=detail))
        if at_once:
            self._dial()
        else:
            # an attempt that waited for an answer in vain has waited already: 5 s and no more, whoever is silent
            now_s = time.monotonic()
            waited_s = now_s - (self._tried_since_s or now_s)
            self._dial_at_s = now_s + max(0.0, self._backoff.next_s() - waited_s)

    def _dial(self, *, session: SessionUse = "fresh") -> None:
        self._dial_at_s, self._tried_since_s = None, time.monotonic()
        self._attempts += 1
        recent = self._lost_s is not None and time.monotonic() - self._lost_s < self._settings.session_s
        if recent:
            session = "resume"
        self._attempt = Attempt(self._attempts, self._settings, self._choice.current, self._loop.put, session=session)
        self._attempt.start()

    def _where(self) -> str:
        return f"{self._settings.host}:{self._settings.port}"
