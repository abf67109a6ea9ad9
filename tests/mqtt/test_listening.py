"""Subscriptions: nothing is said before they deliver; refused ones are asked for again, denied ones left out."""

import time
from collections.abc import Callable, Iterator

import pytest
from support.brokers import settings_of
from support.mini_broker import ACCEPT, CLOSE, MUTE, MiniBroker, Rules
from support.station import Station

from agent.messages.events import LinkTakenOver, LinkUp, Listening, Received
from agent.mqtt.access.denials import Denials, Unanswered
from agent.mqtt.access.topic_filter import TopicFilter
from agent.mqtt.blocking_client import connected

BASE = "changeover/v1/box-7"
EXACT = f"{BASE}/line/line-1/product/set"
WISHES = [
    TopicFilter(f"{BASE}/line/+/product/set", (EXACT,)),
    TopicFilter(f"{BASE}/schedule/set"),
    TopicFilter(f"{BASE}/cmd/+", (f"{BASE}/cmd/reload",)),
    TopicFilter(f"{BASE}/meta", is_passing=True),
    TopicFilter(f"{BASE}/line/+/ready", is_passing=True),
]
each_protocol = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@pytest.fixture
def broker() -> Iterator[MiniBroker]:
    broker = MiniBroker()
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def station(broker: MiniBroker, make_station: Callable[..., Station], protocol: str) -> Station:
    """Give a station that is connecting, and wants what an agent wants."""
    station = make_station(broker.port, protocol=protocol, keepalive_s=4)
    station.wishes = WISHES
    station.publisher.send_state(station.topics.status, b"online")
    station.ready("line-1", "0")
    return station


def commanded(broker: MiniBroker, station: Station) -> None:
    """See that a PLC's order, sent once and not retained, arrives."""
    with connected(settings_of(broker.url, "plc")) as plc:
        plc.publish(EXACT, b"bottle-500")
    station.until(lambda: any(isinstance(one, Received) and one.topic == EXACT for one in station.heard))


def codes(station: Station) -> list[tuple[str, bool]]:
    return [(one.code, one.on) for one in station.noticed]


@each_protocol
@pytest.mark.parametrize(("granted_after_s", "active_after_s"), [(1.0, 0.0), (0.0, 1.0), (0.7, 0.7)])
def test_nothing_is_said_before_subscriptions_deliver(
    broker: MiniBroker, station: Station, granted_after_s: float, active_after_s: float
) -> None:
    broker.rules = Rules(granted_after_s=granted_after_s, active_after_s=active_after_s)
    began_s = time.monotonic()
    station.until(lambda: broker.accepted("/status") == [b"online"])
    assert time.monotonic() - began_s >= granted_after_s + active_after_s - 0.1
    said = [one.topic for one in broker.seen if not one.topic.endswith("/ping")]
    assert said[0] == f"{BASE}/line/line-1/ready"
    commanded(broker, station)
    assert codes(station) == []


@each_protocol
def test_its_own_topics_are_not_heard_after_the_start(broker: MiniBroker, station: Station) -> None:
    broker.retained = {f"{BASE}/meta": b"another's", f"{BASE}/line/gone/ready": b"0"}
    station.until(lambda: broker.accepted("/status") == [b"online"])
    heard = [one.topic for one in station.heard if isinstance(one, Received)]
    assert set(heard) == {f"{BASE}/meta", f"{BASE}/line/gone/ready"}
    assert sorted(broker.left) == [f"{BASE}/line/+/ready", f"{BASE}/meta"]
    station.publisher.send_state(station.topics.of_device("meta"), b"ours")
    station.ready("line-1", "17")
    station.until(lambda: broker.accepted("/ready")[-1] == b"17")
    commanded(broker, station)
    heard = [one.topic for one in station.heard if isinstance(one, Received)]
    assert heard.count(f"{BASE}/meta") == 1
    assert f"{BASE}/line/line-1/ready" not in heard


@each_protocol
@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
def test_a_refused_subscription_is_asked_for_again(broker: MiniBroker, station: Station, code: int) -> None:
    left = {one.filter_: [code, code] for one in WISHES}
    broker.rules = Rules(on_subscribe=lambda one: left[one].pop() if left.get(one) else ACCEPT)
    station.until_heard(Listening)
    commanded(broker, station)
    station.until(lambda: broker.asked.count(f"{BASE}/schedule/set") == 3)
    station.until(lambda: broker.accepted("/status") == [b"online"])
    assert ("duplicate_device", True) not in codes(station)


@each_protocol
def test_a_subscription_without_rights_is_an_alert_that_names_it_and_the_rest_goes_on(
    broker: MiniBroker, station: Station
) -> None:
    broker.rules = Rules(on_subscribe=lambda one: 0x87 if one.endswith("schedule/set") else ACCEPT)
    station.until(lambda: broker.accepted("/status") == [b"online"])
    station.until(lambda: ("rights_missing", True) in codes(station))
    assert f"{BASE}/schedule/set" in str(station.noticed[-1].detail)
    commanded(broker, station)


@each_protocol
def test_rights_for_the_own_ping_are_missed_and_the_alert_ends_when_it_comes_back(
    broker: MiniBroker, station: Station
) -> None:
    is_denied = True
    # as mosquitto does in 3.1.1: taken, and dropped
    broker.rules = Rules(on_publish=lambda topic, _: MUTE if topic.endswith("/ping") and is_denied else ACCEPT)
    station.until(lambda: broker.accepted("/status") == [b"online"])
    station.until(lambda: ("rights_missing", True) in codes(station))
    assert station.topics.ping in str(station.noticed[-1].detail)
    is_denied = False
    station.until(lambda: ("rights_missing", False) in codes(station))


@each_protocol
@pytest.mark.parametrize(
    "denied", ["line/+/ready", "cmd/+", "schedule/set", "meta", "ping", "line/+/product/set", "every wildcard"]
)
def test_a_filter_on_which_the_broker_closes_is_left_out(broker: MiniBroker, station: Station, denied: str) -> None:
    if denied == "every wildcard":
        broker.rules = Rules(wildcards=False)
    else:
        broker.rules = Rules(on_subscribe=lambda one: CLOSE if one.endswith(denied) else ACCEPT)
    station.until(lambda: broker.accepted("/status") == [b"online"], 60)
    commanded(broker, station)
    is_told = protocol_of(station) == "5" and denied == "every wildcard"
    alerts = [one for one in station.noticed if one.on]
    assert {one.code for one in alerts} <= {"broker_refused"}
    assert is_told or any(denied.removeprefix("every ") in str(one.detail) or "+" in str(one.detail) for one in alerts)
    assert not any(isinstance(one, LinkTakenOver) for one in station.heard)


@each_protocol
@pytest.mark.parametrize("denied", ["/phase", "/health", "/alert"])
def test_a_topic_on_which_the_broker_closes_is_left_out(broker: MiniBroker, station: Station, denied: str) -> None:
    broker.rules = Rules(on_publish=lambda topic, _: CLOSE if topic.endswith(denied) else ACCEPT)
    station.publisher.send_state(station.topics.of_line("line-1", "phase"), b"idle")
    station.publisher.send_event(station.topics.of_device("alert"), b"e")

    def is_online() -> object:
        station.publisher.send_live(station.topics.of_device("health"), b"h")
        station.publisher.send_event(station.topics.of_device("ack"), b"a")
        left_out = any(one.on and "left out" in str(one.detail) for one in station.noticed)
        return left_out and station.is_listening and broker.accepted("/status") and broker.accepted("/ack")

    station.until(is_online, 60)
    assert any(denied in str(one.detail) for one in station.noticed)
    assert {one.code for one in station.noticed if one.on} <= {"broker_refused", "rights_missing"}
    commanded(broker, station)


@each_protocol
def test_no_answer_to_a_subscription_is_told_and_the_rest_goes_on(broker: MiniBroker, station: Station) -> None:
    broker.rules = Rules(on_subscribe=lambda one: MUTE if one.endswith("schedule/set") else ACCEPT)
    station.until(lambda: broker.accepted("/status") == [b"online"], 40)
    station.until(lambda: ("rights_missing", True) in codes(station))
    commanded(broker, station)


@each_protocol
def test_a_broker_that_closes_soon_on_nothing_is_told_with_what_was_sent_last(
    broker: MiniBroker, station: Station
) -> None:
    broker.rules = Rules(on_publish=lambda _topic, _: CLOSE)
    station.until(lambda: ("broker_refused", True) in codes(station), 60)
    assert "PUBLISH" in str(station.noticed[0].detail)
    assert not any(isinstance(one, LinkTakenOver) for one in station.heard)


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_a_broker_that_closes_on_connect_is_told_and_tried_again(
    broker: MiniBroker, make_station: Callable[..., Station], protocol: str
) -> None:
    broker.rules = Rules(on_connect=lambda: CLOSE)
    station = make_station(broker.port, protocol=protocol)
    station.publisher.send_state(station.topics.status, b"online")
    station.until(lambda: ("broker_refused", True) in codes(station), 60)
    assert f"will on {BASE}/status" in str(station.noticed[0].detail)
    broker.rules = Rules()
    station.until(lambda: broker.accepted("/status") == [b"online"])
    assert codes(station)[-1] == ("broker_refused", False)


def protocol_of(station: Station) -> str:
    return next(one.protocol for one in station.heard if isinstance(one, LinkUp))


def test_only_what_is_alone_is_left_out_and_smaller_messages_go_on() -> None:
    denials = Denials()
    # at QoS 0 nobody knows whether `a` was taken; what is behind `b` was not looked at
    packets = [Unanswered("PUBLISH a", 10, has_answer=False), Unanswered("PUBLISH b", 700), Unanswered("PUBLISH c", 9)]
    assert not denials.closed(packets, 0.0)
    assert not denials.closed(packets[1:], 1.0)
    assert denials.is_careful
    denials.passed("PUBLISH a")
    assert denials.closed(packets[1:], 2.0)
    assert not denials.refuses("PUBLISH c", 9)
    assert denials.refuses("PUBLISH b", 700)
    assert not denials.refuses("PUBLISH b", 699)
    assert not denials.refuses("PUBLISH a", 10)
    denials.connecting(100.0)
    assert denials.refuses("PUBLISH b", 700)
    denials.connecting(700.0)
    assert not denials.refuses("PUBLISH b", 700)


def test_closes_far_apart_leave_nothing_out() -> None:
    denials = Denials()
    for moment in range(10):
        assert not denials.closed([Unanswered("PUBLISH a", 10)], 1000.0 * moment)
        denials.steady()


def test_a_packet_that_passed_in_between_is_innocent() -> None:
    denials = Denials()
    for moment in range(10):
        assert not denials.closed([Unanswered("PUBLISH a", 10)], float(moment))
        denials.passed("PUBLISH a")
        denials.steady()
        assert not denials.is_careful


def test_a_rare_packet_that_is_closed_on_each_time_is_left_out() -> None:
    """As `health` is sent each 5 s, so that each connection stands for some time before it is closed."""
    denials = Denials()
    packet = [Unanswered("PUBLISH a", 700)]
    assert not denials.closed(packet, 0.0)
    denials.steady()
    assert not denials.closed(packet, 60.0)
    denials.steady()
    assert denials.is_careful
    assert denials.closed(packet, 120.0)
    assert denials.refuses("PUBLISH a", 700)
    denials.steady()
    assert not denials.is_careful
    # and a smaller one that is closed on as well shows that the limit is lower: no more is tried
    assert denials.closed([Unanswered("PUBLISH a", 699)], 130.0)
    assert denials.refuses("PUBLISH a", 1)
