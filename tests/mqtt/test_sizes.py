"""Messages that are too large, in both directions: exact lengths, one alert, and the rest goes on."""

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from support.brokers import Mosquitto
from support.station import Station

from agent.messages.events import LinkDown, LinkUp, Listening, Received
from agent.mqtt.access.topic_filter import TopicFilter
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings, ProtocolVersion
from agent.mqtt.message import OutgoingMessage
from agent.mqtt.packet_size import packet_bytes

LIMIT_BYTES = 600
HUGE_BYTES = 50_000_000
TOPIC = "changeover/v1/box-7/meta"


def _of(size_bytes: int, protocol: ProtocolVersion, topic: str = TOPIC) -> OutgoingMessage:
    """Return a message that takes exactly so many bytes on the wire."""
    rest = packet_bytes(OutgoingMessage(topic, b"x" * 300), protocol) - 300
    return OutgoingMessage(topic, b"x" * (size_bytes - rest), retain=True)


def _told(station: Station, code: str = "message_too_large") -> list[str]:
    return [one.detail or "" for one in station.noticed if one.on and one.code == code]


def test_a_packet_of_exactly_the_limit_goes_and_one_byte_more_is_an_alert(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station]
) -> None:
    broker = make_mosquitto(more=(f"max_packet_size {LIMIT_BYTES}",))
    station = make_station(broker.port, protocol="5")
    station.until_heard(LinkUp)
    answered: list[str] = []
    assert station.link.publish(_of(LIMIT_BYTES + 1, "5"), lambda _: answered.append("larger"))
    assert station.link.publish(_of(LIMIT_BYTES, "5"), lambda _: answered.append("exact"))
    station.until(lambda: len(answered) == 2)
    assert [TOPIC in detail for detail in _told(station)] == [True]
    assert not any(isinstance(one, LinkDown) for one in station.heard)
    with connected(LinkSettings("127.0.0.1", broker.port, "later", protocol="5")) as later:
        later.subscribe([TOPIC])
        arrival = later.receive(30.0)
    assert arrival is not None
    assert len(arrival.payload) == len(_of(LIMIT_BYTES, "5").payload)


def test_one_alert_names_every_topic_that_is_too_large_once(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station]
) -> None:
    broker = make_mosquitto(more=(f"max_packet_size {LIMIT_BYTES}",))
    station = make_station(broker.port, protocol="5")
    station.until_heard(LinkUp)
    other = "changeover/v1/box-7/health"
    for size_bytes, topic in ((601, TOPIC), (1499, other), (1502, other), (602, TOPIC)):
        assert station.link.publish(_of(size_bytes, "5", topic))
    answered: list[str] = []
    assert station.link.publish(_of(LIMIT_BYTES, "5"), lambda _: answered.append("exact"))
    station.until(lambda: bool(answered))
    told = _told(station)
    assert [(TOPIC in detail, other in detail) for detail in told] == [(True, False), (True, True)]
    assert told[1].startswith(f"{told[0]}; ")


def test_what_a_silent_broker_closes_on_for_ten_seconds_is_set_aside_and_the_rest_goes_on(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station]
) -> None:
    broker = make_mosquitto(more=(f"max_packet_size {LIMIT_BYTES}",))
    station = make_station(broker.port, protocol="3.1.1")
    while not any("left out" in detail for detail in _told(station, "broker_refused")):
        station.until_heard(LinkUp)
        station.link.publish(_of(200, "3.1.1", "changeover/v1/box-7/status"))
        # one by one, as the publisher does where the window is small
        station.until(lambda: station.link.has_room)
        station.link.publish(_of(780, "3.1.1"))
        station.until_heard(LinkDown)
    station.until_heard(LinkUp)
    assert TOPIC in _told(station, "broker_refused")[-1]
    answered: list[str] = []
    station.link.publish(_of(780, "3.1.1"), lambda _: answered.append("set aside"))
    for message in (_of(LIMIT_BYTES, "3.1.1"), _of(200, "3.1.1", "changeover/v1/box-7/status")):
        station.until(lambda: station.link.has_room)
        station.link.publish(message, lambda _: answered.append("goes"))
    station.until(lambda: len(answered) == 3)
    assert not any(isinstance(one, LinkDown) for one in station.heard)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("correlation", [None, b"", b"c" * 200])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 100, 127, 128, 16_383, 16_384, 70_000])
def test_lengths_are_those_of_paho(protocol: ProtocolVersion, correlation: bytes | None, qos: int, size: int) -> None:
    message = OutgoingMessage("changeover/v1/käse", b"x" * size, qos, correlation=correlation)
    assert packet_bytes(message, protocol) == _encoded_bytes(message, protocol)


def _encoded_bytes(message: OutgoingMessage, protocol: ProtocolVersion) -> int:
    import paho.mqtt.client as paho  # noqa: PLC0415 - the reference
    from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion  # noqa: PLC0415
    from paho.mqtt.packettypes import PacketTypes  # noqa: PLC0415
    from paho.mqtt.properties import Properties  # noqa: PLC0415

    version = MQTTProtocolVersion.MQTTv5 if protocol == "5" else MQTTProtocolVersion.MQTTv311
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=version)
    properties = None
    if protocol == "5" and message.correlation is not None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.CorrelationData = message.correlation
    packets: list[bytes] = []

    def keep(_command: int, packet: bytes, *_more: object) -> int:
        packets.append(bytes(packet))
        return 0

    client._packet_queue = keep  # type: ignore[assignment, method-assign]
    client._sock = object()  # type: ignore[assignment]
    client._send_publish(1, message.topic.encode(), message.payload, message.qos, False, False, None, properties)
    client._sock = None
    return len(packets[0])


def test_a_huge_message_to_us_ends_the_connection_and_is_not_kept(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    station = make_station(mosquitto.port, protocol="3.1.1", session_s=120)
    topic = "changeover/v1/box-7/line/line-1/product/set"
    station.until_heard(LinkUp)
    station.link.listen([TopicFilter(topic)])
    with _python_memory() as held_bytes, connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as plc:
        station.until(lambda: station.link.in_flight == 0)
        for _ in range(3):
            _until_it_hears(station, plc.publish, topic)
            plc.publish(topic, b"x" * HUGE_BYTES, timeout_s=60)
            assert "50000" in station.until_heard(LinkDown).detail
            station.until_heard(LinkUp)
            station.link.listen([TopicFilter(topic)])
        _until_it_hears(station, plc.publish, topic)
        gc.collect()
        assert held_bytes() < HUGE_BYTES / 5
    assert len(_told(station)) == 1, "told once, and still on"


def test_a_huge_retained_message_is_named_and_left_out_and_the_rest_is_heard(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    base = "changeover/v1/box-7/line"
    huge, other = f"{base}/line-1/product/set", f"{base}/line-2/product/set"
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as plc:
        plc.publish(huge, b"x" * 2_000_000, retain=True, timeout_s=60)
        plc.publish(other, b"17", retain=True)
        station = make_station(mosquitto.port, protocol="3.1.1", session_s=120)
        station.wishes = [TopicFilter(f"{base}/+/product/set", (huge, other)), TopicFilter("box/huge/#")]
        station.until(lambda: any(isinstance(one, Received) and one.topic == other for one in station.heard))
        station.until(lambda: station.is_listening)
        assert len([one for one in station.heard if isinstance(one, LinkDown)]) == 3
        assert all(huge in detail for detail in _told(station))
        assert "left out" in _told(station)[-1]
        plc.publish("box/huge/1", b"heard")
        station.until(lambda: any(isinstance(one, Received) and one.topic == "box/huge/1" for one in station.heard))


def test_a_sender_that_goes_on_with_huge_messages_makes_deaf_on_its_topic_alone(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    huge = "changeover/v1/box-7/schedule/set"
    station = make_station(mosquitto.port, protocol="3.1.1")
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "sender")) as sender:
        for _ in range(6):
            station.until_heard(Listening)
            sender.publish(huge, b"x" * 400_000, timeout_s=60)
            assert huge in station.until_heard(LinkDown).detail
        station.until_heard(Listening)
        sender.publish(huge, b"x" * 400_000, timeout_s=60)
        sender.publish("changeover/v1/box-7/cmd/reload", b"{}")
        station.until_heard(Received)
        assert not any(isinstance(one, LinkDown) for one in station.heard)


@pytest.mark.usefixtures("dials_soon")
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_without_qos_1_is_refused_with_the_reason(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station], protocol: ProtocolVersion
) -> None:
    # in 3.1.1 this one closes on a will at QoS 1; without it, the SUBACK says so
    will = {"will": None} if protocol == "3.1.1" else {}
    station = make_station(make_mosquitto(more=("max_qos 0",)).port, protocol=protocol, **will)
    for _ in range(2):
        assert "QoS" in station.until_heard(LinkDown).detail
    station.until_heard(LinkDown)
    assert ["QoS" in detail for detail in _told(station, "broker_refused")] == [True]
    assert not station.is_listening
    assert all(one.on for one in station.noticed), "told once, and not called over at the next CONNACK"


def _until_it_hears(station: Station, publish: Callable[[str, bytes], None], topic: str) -> None:
    before = sum(isinstance(one, Received) for one in station.heard)

    def heard() -> bool:
        publish(topic, b"17")
        return sum(isinstance(one, Received) for one in station.heard) > before

    station.until(heard)


@contextmanager
def _python_memory() -> Iterator[Callable[[], int]]:
    """Run the block with a function that returns the bytes of objects made in it, whatever else the process holds."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
