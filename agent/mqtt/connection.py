"""One connection to the broker, driven by control's loop: from its CONNECT to its loss, and never again."""

import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.messages.events import LinkTakenOver, LinkTrouble, Received, Reply
from agent.mqtt.dial import Client, Dialled, Notes, close
from agent.mqtt.outgoing import Outgoing, may_publish_to, refusal
from agent.mqtt.owner import Owner
from agent.mqtt.refusals import is_refusal, missing_service

if TYPE_CHECKING:
    from agent.messages.children import Message

WINDOW: Final = 64
"""QoS 1 messages on the wire without an answer, at most; an MQTT 5 broker may ask for fewer."""
PAYLOAD_LIMIT_BYTES: Final = 64 * 1024
"""Longer payloads are cut to one byte more, so that whoever reads them sees that they are too large."""
_READS_AT_ONCE: Final = 64
_UNSUPPORTED: Final = "Unsupported protocol version"
_TAKEN_OVER: Final = "Session taken over"

Acknowledged = Callable[[], None]


class LoopLike(Protocol):
    """What a link needs of control's loop (`agent.processes.loop.Loop`)."""

    def register(
        self, fd: int, *, read: Callable[[], None] | None = None, write: Callable[[], None] | None = None
    ) -> None:
        """Call back whenever `fd` is ready; replaces what was registered for it."""

    def unregister(self, fd: int) -> None:
        """Forget `fd`."""

    def put(self, event: object) -> None:
        """Hand an event to the loop's thread, from any thread."""


class Connection:
    """One paho client, driven on the loop's thread. Paho's callbacks only write down what they are told."""

    def __init__(self, dialled: Dialled, loop: LoopLike, owner: Owner, ping_topic: str | None) -> None:
        """`dialled` holds a client whose CONNECT is sent."""
        self.protocol: Final = dialled.protocol
        self.accepted = False
        self.answered = False
        self.unsupported = False
        self.refused = False
        self.was_closed = False
        self.found_session = False
        """Whether the broker offered a session that is not wanted any more; the connection ends for that."""
        self.ended: str | None = None
        self.window = WINDOW
        self._maximum_packet_bytes: int | None = None
        self._resumes: Final = dialled.resumes
        self._client: Final[Client] = dialled.client
        self._notes: Final[Notes] = dialled.notes
        self._loop: Final = loop
        self._owner: Final = owner
        self._ping_topic: Final = ping_topic
        self._in_flight: Final[dict[int, tuple[str, Acknowledged | None]]] = {}
        self._subscribing: Final[dict[int, str]] = {}
        self._heard: list[Message] = []
        self._echoes: list[bytes] = []
        self._arrived: list[Acknowledged] = []
        self._told_up = self._told_down = False
        self._waits_to_write: bool | None = None

    @property
    def in_flight(self) -> int:
        """QoS 1 messages without an answer."""
        return len(self._in_flight)

    @property
    def arrived_s(self) -> float:
        """When the last packet came (time.monotonic)."""
        return self._client.arrived_s

    @property
    def is_choked(self) -> bool:
        """Whether the socket takes no more just now."""
        return self._client.want_write()

    @property
    def has_room(self) -> bool:
        """Whether one more QoS 1 message may go on the wire."""
        return self.accepted and self.ended is None and len(self._in_flight) < self.window and not self.is_choked

    def attach(self) -> None:
        """Start to be driven by the loop."""
        client = self._client
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.arrived = self._on_arrived
        client.on_socket_close = self._on_socket_close
        self._wait()

    def publish(self, message: Outgoing, acknowledged: Acknowledged | None = None) -> bool:
        """Write a message to the socket. True: it is off the caller's hands; False: the connection is gone.

        At QoS 1 `acknowledged` is called once the broker answered. What the broker would never take is dropped, said as
        LinkTrouble, and counts as answered.
        """
        if self.ended is not None:
            return False
        refused = refusal(message, self._maximum_packet_bytes)
        if refused is not None:
            self._refuse(message.topic, refused, acknowledged)
            return True
        properties = None
        if message.correlation is not None and self.protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = message.correlation
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS and message.qos:
            self._in_flight[info.mid] = (message.topic, acknowledged)
        self._driven(info.rc)
        return self.ended is None

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe at QoS 1; a refusal comes as LinkTrouble."""
        for topic in topics:
            if self.ended is None:
                self._subscribe(topic)

    def check(self) -> None:
        """Let paho send its own keepalive, and notice that it is not answered."""
        self._driven(self._client.loop_misc())

    def end(self, detail: str) -> None:
        """Close without a word (the broker sends the will); the owner is not told what it decided itself."""
        self.ended = self.ended or detail
        self._told_down = True
        close(self._client)

    def disconnect(self) -> None:
        """Say goodbye, so that the broker sends no will."""
        self._driven(self._client.disconnect())

    def drive(self) -> None:
        """Read and write what the socket has and takes just now, for who waits without the loop."""
        self._read()
        if self.fileno() is not None and self.is_choked:
            self._write()

    def fileno(self) -> int | None:
        """Return the socket's descriptor while it is open."""
        sock = self._client.socket()
        return None if sock is None else sock.fileno()

    def _subscribe(self, topic: str) -> None:
        try:
            rc, mid = self._client.subscribe(topic, qos=1)
        except ValueError:
            self._heard.append(LinkTrouble(detail=f"{topic} is no topic to subscribe to"))
            return
        if mid is not None:
            self._subscribing[mid] = topic
        self._driven(rc)

    def _read(self) -> None:
        rc = MQTTErrorCode.MQTT_ERR_SUCCESS
        for _ in range(_READS_AT_ONCE):
            rc = self._client.loop_read()
            sock = self._client.socket()
            # TLS may hold whole packets that the descriptor no longer shows
            if rc or self.ended is not None or not isinstance(sock, ssl.SSLSocket) or not sock.pending():
                break
        self._driven(rc)

    def _write(self) -> None:
        self._driven(self._client.loop_write())

    def _driven(self, rc: MQTTErrorCode) -> None:
        """Tell the owner what paho's callbacks wrote down: up first, then what was heard, down last."""
        if rc and self.ended is None:
            self.ended = self._notes.last or paho.error_string(rc)
        if self.accepted and not self._told_up:
            self._told_up = True
            self._owner.connection_up()
        self._deliver()
        if self.ended is None:
            self._wait()
        elif not self._told_down:
            self._told_down = True
            if self.found_session:
                self._client.disconnect()  # because the will must not speak
            if not self.accepted:
                close(self._client)  # what we refuse, the broker holds open
            self._owner.connection_down()

    def _deliver(self) -> None:
        if not (self._echoes or self._heard or self._arrived):
            return
        # taken before they are told: what is told may publish, and so come back here
        echoes, self._echoes = self._echoes, []
        heard, self._heard = self._heard, []
        arrived, self._arrived = self._arrived, []
        for payload in echoes:
            self._owner.echoed(payload)
        for message in heard:
            self._owner.heard(message)
        for acknowledged in arrived:
            acknowledged()

    def _refuse(self, topic: str, why: str, acknowledged: Acknowledged | None) -> None:
        self._heard.append(LinkTrouble(detail=f"{topic}: {why}"))
        if acknowledged is not None:
            self._arrived.append(acknowledged)

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
        self.answered = True
        if reason.is_failure:
            self.unsupported = reason.getName() == _UNSUPPORTED
            self.refused = is_refusal(reason.getName())
            self.ended = f"the broker refused: {reason.getName()}"
            return
        if flags.session_present and not self._resumes:
            self.found_session, self.ended = True, "the broker kept an old session"
            return
        missing = missing_service(
            getattr(properties, "MaximumQoS", 2), retains=bool(getattr(properties, "RetainAvailable", 1))
        )
        if missing is not None:
            self.refused, self.ended = True, missing
            return
        self.window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._maximum_packet_bytes = getattr(properties, "MaximumPacketSize", None)
        self.accepted = True

    def _on_disconnect(
        self, _client: paho.Client, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if self.ended is None:
            by_broker = flags.is_disconnect_packet_from_server
            word = "the broker said" if by_broker else "the connection is lost"
            self.ended = f"{word}: {self._notes.last or reason.getName()}"
            self.was_closed = not by_broker
            if by_broker and reason.getName() == _TAKEN_OVER:
                self._heard.append(LinkTakenOver())

    def _on_subscribe(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        topic = self._subscribing.pop(mid, "")
        for reason in reasons:
            if reason.is_failure:
                self._heard.append(LinkTrouble(f"the broker refused a subscription to {topic}", refused=True))

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._heard.append(LinkTrouble(detail="a message with a topic that is not UTF-8 was dropped"))
            return
        if topic == self._ping_topic:
            self._echoes.append(bytes(message.payload))
        else:
            payload = bytes(message.payload[: PAYLOAD_LIMIT_BYTES + 1])
            self._heard.append(Received(topic, payload, retained=message.retain, reply=_reply(message.properties)))

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure and mid in self._in_flight:
            topic, _ = self._in_flight[mid]
            detail = f"{topic}: the broker refused a message: {reason.getName()}"
            self._heard.append(LinkTrouble(detail, refused=True))
        self._on_arrived(mid)

    def _on_arrived(self, mid: int) -> None:
        _, acknowledged = self._in_flight.pop(mid, ("", None))
        if acknowledged is not None:
            self._arrived.append(acknowledged)

    def _on_socket_close(self, _client: paho.Client, _data: object, sock: Any) -> None:  # noqa: ANN401 - paho's SocketLike is no type of its API
        self._loop.unregister(sock.fileno())


def _reply(properties: Properties | None) -> Reply | None:
    topic = getattr(properties, "ResponseTopic", None)
    if not topic or not may_publish_to(topic):
        return None
    return Reply(topic, getattr(properties, "CorrelationData", None))
