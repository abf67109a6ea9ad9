"""One connection to the broker, from its CONNECT to its loss, driven by control's loop."""

import ssl
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.messages.events import LinkTakenOver, LinkTrouble, Received, Reply
from agent.mqtt.access.denials import UNSUBSCRIBE, Denials, Unanswered, publish, subscribe
from agent.mqtt.access.rights import Rights
from agent.mqtt.endpoint.connect_errors import Outcome, is_refusal, missing_service, outcome_of
from agent.mqtt.link.connection_listener import ConnectionListener
from agent.mqtt.link.connection_state import Cause, ConnectionState, Lifecycle
from agent.mqtt.link.connector import Client, Dialled, Notes, close
from agent.mqtt.message import OutgoingMessage, may_publish_to
from agent.mqtt.packet_size import packet_bytes

if TYPE_CHECKING:
    from agent.messages.children import Message
    from agent.mqtt.access.overflows import Overflow

WINDOW: Final = 64
"""Limit of QoS 1 messages in flight; an MQTT 5 broker may ask for fewer."""
PAYLOAD_LIMIT_BYTES: Final = 64 * 1024
"""Longer payloads are cut to one byte more, so that a reader sees that they are too large."""
_READS_AT_ONCE: Final = 64
_UNSUPPORTED: Final = "Unsupported protocol version"
_TAKEN_OVER: Final = "Session taken over"
_INVALID_FILTER: Final = 0x8F
_NO_WILDCARDS: Final = 0xA2
_NOT_ABOUT_A_PACKET: Final = frozenset({0x89, 0x8B, 0x8D, 0x8E, 0x93, 0x98, 0x9C, 0x9D, 0x9F, 0xA0, 0xA2})
"""DISCONNECT reasons that do not concern a packet of ours."""
_NOT_NOW: Final = frozenset({0x83, 0x97})
"""DISCONNECT reasons of a temporary limit: implementation specific error, quota exceeded."""

Answered = Callable[[Outcome], None]
"""Called once with the broker's answer to a QoS 1 message."""


class LoopLike(Protocol):
    """The part of control's loop (`agent.processes.loop.Loop`) that a link needs."""

    def register(
        self, fd: int, *, read: Callable[[], None] | None = None, write: Callable[[], None] | None = None
    ) -> None:
        """Call back whenever `fd` is ready; replaces an earlier registration."""

    def unregister(self, fd: int) -> None:
        """Remove the registration of `fd`."""

    def put(self, event: object) -> None:
        """Enqueue an event for the loop's thread, from any thread."""


class Connection:
    """One paho client, driven on the loop's thread; its callbacks only record events."""

    def __init__(  # noqa: PLR0913, PLR0917 - parts of one link
        self,
        dialled: Dialled,
        loop: LoopLike,
        owner: ConnectionListener,
        rights: Rights,
        denials: Denials,
        ping_topic: str | None,
    ) -> None:
        """Take over the client in `dialled`, which has sent its CONNECT."""
        self.protocol: Final = dialled.protocol
        self.life: Final = Lifecycle()
        self.window = WINDOW
        self._maximum_packet_bytes: int | None = None
        self._resumes: Final = dialled.resumes
        self._client: Final[Client] = dialled.client
        self._notes: Final[Notes] = dialled.notes
        self._loop: Final = loop
        self._owner: Final = owner
        self._rights: Final = rights
        self._denials: Final = denials
        self._ping_topic: Final = ping_topic
        self._in_flight: Final[dict[int, tuple[str, Answered | None]]] = {}
        self._sent: Final[dict[int | str, tuple[int, Unanswered]]] = {}
        self._sent_count = 0
        self._subscribing: Final[dict[int, str]] = {}
        self._heard: list[Message] = []
        self._echoes: list[bytes] = []
        self._subacks: list[tuple[str, int]] = []
        self._arrived: list[tuple[Answered, Outcome]] = []
        self._waits_to_write: bool | None = None

    @property
    def overflow(self) -> "Overflow | None":
        """The received message that ended the connection because it was too large; None without one."""
        return self._client.overflow

    @property
    def in_flight(self) -> int:
        """QoS 1 messages in flight."""
        return len(self._in_flight)

    @property
    def arrived_s(self) -> float:
        """Arrival time of the last packet (time.monotonic)."""
        return self._client.arrived_s

    @property
    def is_choked(self) -> bool:
        """True while the socket accepts no more data."""
        return self._client.want_write()

    @property
    def has_room(self) -> bool:
        """True where one more QoS 1 message may be sent."""
        return self.life.is_up and len(self._in_flight) < self.window and not self.is_choked

    def attach(self) -> None:
        """Register with the loop."""
        client = self._client
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = lambda _client, _data, mid, _reasons, _properties: self._note_answered(mid)
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.arrived = self._on_arrived
        client.on_socket_close = self._on_socket_close
        self._wait()

    def publish(self, message: OutgoingMessage, answered: Answered | None = None) -> bool:
        """Write a message to the socket; False means that the connection is gone.

        At QoS 1 `answered` is called with the broker's answer. A message that the broker would never accept is not sent
        but reported as LinkTrouble, and answered with `Outcome.NEVER`.
        """
        if self.life.cause is not None:
            return False
        packet = Unanswered(publish(message.topic), packet_bytes(message, self.protocol), has_answer=message.qos > 0)
        if (refused := self._refusal(message.topic, packet.size_bytes)) is not None:
            self._refuse(refused, answered)
            return True
        if self._denials.refuses(packet.packet, time.monotonic(), packet.size_bytes):
            if message.qos:
                trouble = LinkTrouble(f"{message.topic}: left out: the broker closes on it")
                self._refuse(trouble, answered, Outcome.DENIED)
            return bool(message.qos)
        properties = None
        if message.correlation is not None and self.protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS and message.qos:
            self._in_flight[info.mid] = (message.topic, answered)
        self._note_sent(info.mid if message.qos else packet.packet, packet)
        self._driven(info.rc)
        return self.life.cause is None

    @property
    def unanswered(self) -> list[Unanswered]:
        """Unanswered packets, the oldest first; a QoS 0 packet counts until a later one is answered."""
        return [packet for _, packet in sorted(self._sent.values(), key=lambda one: one[0])]

    def subscribe(self, topic: str) -> None:
        """Subscribe at QoS 1; the listener receives the answer."""
        if self.life.cause is not None:
            return
        try:
            rc, mid = self._client.subscribe(topic, qos=1)
        except ValueError:
            self._heard.append(LinkTrouble(detail=f"{topic} is no topic to subscribe to"))
            self._subacks.append((topic, _INVALID_FILTER))
            return
        if mid is not None:
            self._subscribing[mid] = topic
            self._note_sent(mid, Unanswered(subscribe(topic)))
        self._driven(rc)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Unsubscribe from topics."""
        if self.life.cause is None:
            rc, mid = self._client.unsubscribe(list(topics))
            if mid is not None:
                self._note_sent(mid, Unanswered(UNSUBSCRIBE))
            self._driven(rc)

    def check(self) -> None:
        """Let paho send its keepalive, and notice a missing answer."""
        self._driven(self._client.loop_misc())

    def refuse(self, why: str) -> None:
        """Close without a DISCONNECT for a fault that needs a change at the broker; the listener hears of a loss."""
        self.life.ends(Cause.REFUSED, why)
        close(self._client)
        self._driven(MQTTErrorCode.MQTT_ERR_SUCCESS)

    def drop(self, detail: str) -> None:
        """Close without a DISCONNECT, so that the broker sends the will; the listener is not called."""
        self.life.ends(Cause.OTHER, detail)
        self.life.finish()
        close(self._client)

    def disconnect(self) -> None:
        """Send a DISCONNECT, so that the broker sends no will."""
        self._driven(self._client.disconnect())

    def drive(self) -> None:
        """Read and write once, for callers without the loop."""
        self._read()
        if self.fileno() is not None and self.is_choked:
            self._write()

    def fileno(self) -> int | None:
        """Return the socket's descriptor; None once it is closed."""
        sock = self._client.socket()
        return None if sock is None else sock.fileno()

    def _note_sent(self, key: int | str, packet: Unanswered) -> None:
        self._sent_count += 1
        self._sent[key] = self._sent_count, packet

    def _note_answered(self, key: int | str) -> None:
        """Record an answer: the broker closed neither on this packet nor on QoS 0 packets before it."""
        number, packet = self._sent.pop(key, (0, None))
        if packet is None:
            return
        passed = [key for key, (other, _) in self._sent.items() if isinstance(key, str) and other < number]
        for one in [packet, *(self._sent.pop(key)[1] for key in passed)]:
            self._denials.passed(one.packet, one.size_bytes)

    def _read(self) -> None:
        rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        for _ in range(_READS_AT_ONCE):
            rc = self._client.loop_read()
            sock = self._client.socket()
            # because TLS may buffer whole packets for which the descriptor is not readable
            if rc or self.life.cause is not None or not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                break
        self._driven(rc)

    def _write(self) -> None:
        self._driven(self._client.loop_write())

    def _driven(self, rc: MQTTErrorCode) -> None:
        """Report recorded events to the listener: up first, then messages, down last."""
        if rc:
            self.life.ends(Cause.OTHER, self._notes.last or paho.error_string(rc))
        if self.life.state is ConnectionState.ACCEPTED:
            self.life.move(ConnectionState.UP)
            self._owner.connection_up()
        self._deliver()
        if self.life.cause is None:
            self._wait()
        elif not self.life.is_over:
            self.life.finish()
            if self.life.cause is Cause.OLD_SESSION:
                self._client.disconnect()  # because the will must not be sent
            if not self.life.was_accepted:
                close(self._client)  # because the broker keeps a connection open that we refuse
            self._owner.connection_down()

    def _deliver(self) -> None:
        if not (self._echoes or self._heard or self._arrived or self._subacks):
            return
        # swapped out first, because a listener may publish and so re-enter this method
        echoes, self._echoes = self._echoes, []
        heard, self._heard = self._heard, []
        arrived, self._arrived = self._arrived, []
        subacks, self._subacks = self._subacks, []
        for filter_, code in subacks:
            self._owner.subscribed(filter_, code)
        for payload in echoes:
            self._owner.echoed(payload)
        for message in heard:
            self._owner.heard(message)
        for answered, outcome in arrived:
            answered(outcome)

    def _refusal(self, topic: str, size_bytes: int) -> LinkTrouble | None:
        """Return why the broker would never accept such a message; None where it may."""
        if not may_publish_to(topic):
            return LinkTrouble(detail=f"{topic}: this is no topic to publish to")
        limit_bytes = self._maximum_packet_bytes
        if limit_bytes is not None and size_bytes > limit_bytes:
            detail = f"{topic}: {size_bytes} bytes, where the broker takes {limit_bytes}"
            return LinkTrouble(detail=detail, too_large=True)
        return None

    def _refuse(self, trouble: LinkTrouble, answered: Answered | None, outcome: Outcome = Outcome.NEVER) -> None:
        self._heard.append(trouble)
        if answered is not None:
            self._arrived.append((answered, outcome))

    def _wait(self) -> None:
        fd = self.fileno()
        if fd is not None and self._waits_to_write is not self.is_choked:
            self._waits_to_write = self.is_choked
            self._loop.register(fd, read=self._read, write=self._write if self.is_choked else None)

    # paho's callbacks

    def _on_connect(
        self,
        _client: paho.Client,
        _data: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            name = reason.getName()
            cause = Cause.REFUSED if is_refusal(name) else Cause.TURNED_AWAY
            self.life.ends(Cause.UNSUPPORTED if name == _UNSUPPORTED else cause, f"the broker refused: {name}")
            return
        if flags.session_present and not self._resumes:
            self.life.ends(Cause.OLD_SESSION, "the broker kept an old session")
            return
        missing = missing_service(
            getattr(properties, "MaximumQoS", 2), retains=bool(getattr(properties, "RetainAvailable", 1))
        )
        if missing is not None:
            self.life.ends(Cause.REFUSED, missing)
            return
        self.window = 1 if self._denials.is_careful else min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        if getattr(properties, "WildcardSubscriptionAvailable", 1) == 0:
            self._denials.takes_no_wildcards(time.monotonic())
        self._maximum_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self.life.move(ConnectionState.ACCEPTED)

    def _on_disconnect(
        self, _client: paho.Client, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if self.life.cause is None:
            by_broker = flags.is_disconnect_packet_from_server
            word = "the broker said" if by_broker else "the connection is lost"
            self.life.ends(
                self._cause_of(reason.value if by_broker else None), f"{word}: {self._notes.last or reason.getName()}"
            )
            if by_broker and reason.getName() == _TAKEN_OVER:
                self._heard.append(LinkTakenOver())
            if by_broker and reason.value == _NO_WILDCARDS:
                self._denials.takes_no_wildcards(time.monotonic())

    def _cause_of(self, said: int | None) -> Cause:
        if self.overflow is not None or said in _NOT_ABOUT_A_PACKET:
            return Cause.OTHER
        return Cause.NOT_NOW if said in _NOT_NOW else Cause.UNEXPLAINED

    def _on_subscribe(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        topic = self._subscribing.pop(mid, "")
        self._note_answered(mid)
        self._subacks += [(topic, reason.value) for reason in reasons]

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._heard.append(LinkTrouble(detail="a message with a topic that is not UTF-8 was dropped"))
            return
        if topic == self._ping_topic:
            self._echoes.append(bytes(message.payload))
            self._note_answered(publish(topic))
        else:
            payload = bytes(message.payload[: PAYLOAD_LIMIT_BYTES + 1])
            self._heard.append(Received(topic, payload, retained=message.retain, reply=_reply(message.properties)))

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        outcome = outcome_of(reason.value)
        if outcome is not Outcome.ACCEPTED and mid in self._in_flight:
            topic, _ = self._in_flight[mid]
            why = f"the broker refused a message: {reason.getName()}"
            if outcome is Outcome.DENIED:
                self._rights.deny(topic, why)
            self._heard.append(LinkTrouble(f"{topic}: {why}"))
        self._on_arrived(mid, outcome)

    def _on_arrived(self, mid: int, outcome: Outcome = Outcome.ACCEPTED) -> None:
        topic, answered = self._in_flight.pop(mid, ("", None))
        self._note_answered(mid)
        if outcome is Outcome.ACCEPTED and self._rights.missing:
            self._rights.grant(topic)
        if answered is not None:
            self._arrived.append((answered, outcome))

    def _on_socket_close(self, _client: paho.Client, _data: object, sock: Any) -> None:  # noqa: ANN401 - paho's SocketLike is no type of its API
        self._loop.unregister(sock.fileno())


def _reply(properties: Properties | None) -> Reply | None:
    topic = getattr(properties, "ResponseTopic", None)
    if not topic or not may_publish_to(topic):
        return None
    return Reply(topic, getattr(properties, "CorrelationData", None))
