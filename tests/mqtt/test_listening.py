"""Subscriptions: nothing is said before they deliver; refused ones are asked for again, denied ones left out."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from support.brokers import settings_of
from support.mini_broker import ACCEPT, CLOSE, MUTE, MiniBroker, Rules
from support.station import Station
from support.waiting import together

from agent.messages.events import LinkTakenOver, LinkUp, Listening, Received
from agent.mqtt.access import denials as denials_module
from agent.mqtt.access.denials import UNSUBSCRIBE, Denials, Unanswered
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
PROTOCOLS = ("5", "3.1.1")
each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


Make = Callable[..., tuple[MiniBroker, Station]]


@pytest.fixture
def make() -> Iterator[Make]:
    """`make(protocol, rules)` gives a broker, and a station that is connecting and wants what an agent wants."""
    with ExitStack() as stack:

        def make_both(protocol: str, rules: Rules | None = None) -> tuple[MiniBroker, Station]:
            broker = MiniBroker(rules)
            broker.start()
            stack.callback(broker.stop)
            station = Station(broker.port, protocol=protocol, keepalive_s=4)
            stack.callback(station.close)
            station.wishes = WISHES
            station.publisher.send_state(station.topics.status, b"online")
            station.ready("line-1", "0")
            station.link.start()
            return broker, station

        yield make_both


@pytest.fixture
def both(make: Make, protocol: str) -> tuple[MiniBroker, Station]:
    return make(protocol)


@pytest.fixture
def broker(both: tuple[MiniBroker, Station]) -> MiniBroker:
    return both[0]


@pytest.fixture
def station(both: tuple[MiniBroker, Station]) -> Station:
    return both[1]


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


def test_a_filter_on_which_the_broker_closes_is_left_out(make: Make) -> None:
    filters = ("line/+/ready", "cmd/+", "schedule/set", "meta", "ping", "line/+/product/set")
    rules = {denied: Rules(on_subscribe=partial(closes_on, denied)) for denied in filters}
    rules["every wildcard"] = Rules(wildcards=False)

    def is_left_out(broker: MiniBroker, station: Station, denied: str) -> None:
        station.until(lambda: broker.accepted("/status") == [b"online"], 60)
        commanded(broker, station)
        is_told = protocol_of(station) == "5" and denied == "every wildcard"
        alerts = [one for one in station.noticed if one.on]
        assert {one.code for one in alerts} <= {"broker_refused"}
        words = (denied.removeprefix("every "), "+")
        assert is_told or any(word in str(one.detail) for word in words for one in alerts)
        assert not any(isinstance(one, LinkTakenOver) for one in station.heard)

    together(
        {
            f"{denied} in {protocol}": partial(is_left_out, *make(protocol, rule), denied)
            for denied, rule in rules.items()
            for protocol in PROTOCOLS
        }
    )


def test_a_topic_on_which_the_broker_closes_is_left_out(make: Make) -> None:
    def is_left_out(broker: MiniBroker, station: Station, denied: str) -> None:
        station.publisher.send_state(station.topics.of_line("line-1", "phase"), b"idle")
        station.publisher.send_event(station.topics.of_device("alert"), b"e")

        def is_online() -> object:
            station.publisher.send_live(station.topics.of_device("health"), b"h")
            station.publisher.send_event(station.topics.of_device("ack"), b"a")
            left_out = any(denied in str(one.detail) and "left out" in str(one.detail) for one in station.noticed)
            return left_out and station.is_listening and broker.accepted("/status") and broker.accepted("/ack")

        station.until(is_online, 60)
        assert {one.code for one in station.noticed if one.on} <= {"broker_refused", "rights_missing"}
        commanded(broker, station)

    together(
        {
            f"{denied} in {protocol}": partial(
                is_left_out, *make(protocol, Rules(on_publish=partial(closes_on, denied))), denied
            )
            for denied in ("/phase", "/health", "/alert")
            for protocol in PROTOCOLS
        }
    )


def closes_on(end: str, topic: str, _payload: bytes = b"") -> int:
    return CLOSE if topic.endswith(end) else ACCEPT


def test_a_broker_that_closes_for_3_s_costs_nothing_afterwards(make: Make) -> None:
    def is_forgiven(broker: MiniBroker, station: Station, denied: str) -> None:
        until_s = time.monotonic() + 3.0

        def answer(topic: str, _payload: bytes = b"") -> int:
            return closes_on(denied, topic) if time.monotonic() < until_s else ACCEPT

        broker.rules = Rules(on_publish=answer, on_subscribe=answer)
        station.until(lambda: broker.accepted("/status") == [b"online"], 60)
        assert broker.accepted("/ready") == [b"0"]
        assert f"{BASE}/schedule/set" in broker.asked
        assert not any("left out" in str(one.detail) for one in station.noticed)

    together(
        {
            f"{denied} in {protocol}": partial(is_forgiven, *make(protocol), denied)
            for denied in ("line-1/ready", "schedule/set")
            for protocol in PROTOCOLS
        }
    )


def test_a_broker_that_says_not_now_leaves_nothing_out(make: Make) -> None:
    def leaves_nothing_out(broker: MiniBroker, station: Station, code: int) -> None:
        closed: list[float] = []

        def answer(topic: str, _payload: bytes) -> int:
            if not topic.endswith("/ready") or (len(closed) > 3 and closed[-1] - closed[0] > 11.0):
                return ACCEPT
            closed.append(time.monotonic())
            return CLOSE

        broker.rules = Rules(on_publish=answer, disconnect_code=code)
        station.until(lambda: broker.accepted("/status") == [b"online"], 60)
        assert not any("left out" in str(one.detail) for one in station.noticed)

    together({f"{code:#x}": partial(leaves_nothing_out, *make("5"), code) for code in (0x83, 0x89, 0x8B, 0x97)})


def test_a_left_out_filter_is_asked_for_again_while_the_connection_stands(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(denials_module, "_SPAN_S", 0.0)
    monkeypatch.setattr(denials_module, "_LEFT_OUT_S", 12.0)

    def is_asked_for_again(broker: MiniBroker, station: Station) -> None:
        station.until(lambda: broker.accepted("/status") == [b"online"], 60)
        connects, asked = broker.connects, broker.asked.count(f"{BASE}/schedule/set")
        broker.rules = Rules()
        station.until(lambda: broker.asked.count(f"{BASE}/schedule/set") > asked)
        station.until(lambda: ("broker_refused", False) in codes(station))
        assert broker.connects == connects

    rules = Rules(on_subscribe=partial(closes_on, "schedule/set"))
    together({protocol: partial(is_asked_for_again, *make(protocol, rules)) for protocol in PROTOCOLS})


def test_a_left_out_ready_comes_back_once_the_broker_takes_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials_module, "_SPAN_S", 0.0)

    def comes_back(broker: MiniBroker, station: Station) -> None:
        station.until(lambda: any("ready: left out" in str(one.detail) for one in station.noticed), 60)
        broker.rules = Rules()
        station.until(lambda: broker.accepted("/ready") == [b"0"], 60)
        station.until(lambda: ("broker_refused", False) in codes(station))

    rules = Rules(on_publish=partial(closes_on, "/ready"))
    together({protocol: partial(comes_back, *make(protocol, rules)) for protocol in PROTOCOLS})


def test_a_broker_that_closes_on_unsubscribe_is_left_subscribed(make: Make) -> None:
    def is_left_subscribed(broker: MiniBroker, station: Station) -> None:
        station.until(lambda: broker.accepted("/status") == [b"online"], 60)
        station.until(lambda: any("UNSUBSCRIBE: left out" in str(one.detail) for one in station.noticed))
        commanded(broker, station)

    together(
        {protocol: partial(is_left_subscribed, *make(protocol, Rules(unsubscribes=False))) for protocol in PROTOCOLS}
    )


def test_no_answer_to_a_subscription_is_told_and_the_rest_goes_on(make: Make) -> None:
    def is_told(broker: MiniBroker, station: Station) -> None:
        station.until(lambda: broker.accepted("/status") == [b"online"], 60)
        station.until(lambda: ("rights_missing", True) in codes(station))
        commanded(broker, station)

    rules = Rules(on_subscribe=lambda one: MUTE if one.endswith("schedule/set") else ACCEPT)
    together({protocol: partial(is_told, *make(protocol, rules)) for protocol in PROTOCOLS})


def test_a_broker_that_closes_soon_on_nothing_is_told_with_what_was_sent_last(make: Make) -> None:
    def is_told(_broker: MiniBroker, station: Station) -> None:
        station.until(lambda: ("broker_refused", True) in codes(station), 60)
        assert "PUBLISH" in str(station.noticed[0].detail)
        assert not any(isinstance(one, LinkTakenOver) for one in station.heard)

    rules = Rules(on_publish=lambda _topic, _: CLOSE)
    together({protocol: partial(is_told, *make(protocol, rules)) for protocol in PROTOCOLS})


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_a_broker_that_closes_on_connect_is_told_and_tried_again(make: Make, protocol: str) -> None:
    broker, station = make(protocol, Rules(on_connect=lambda: CLOSE))
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
    assert denials.closed(packets[1:], 12.0)
    assert not denials.refuses("PUBLISH c", 12.0, 9)
    assert denials.refuses("PUBLISH b", 12.0, 700)
    assert not denials.refuses("PUBLISH b", 12.0, 699)
    assert not denials.refuses("PUBLISH a", 12.0, 10)
    assert denials.refuses("PUBLISH b", 611.0, 700)
    assert not denials.refuses("PUBLISH b", 612.0, 700)


def test_a_broker_that_closes_for_some_seconds_leaves_nothing_out() -> None:
    denials = Denials()
    packet = [Unanswered("PUBLISH a/line/l/ready", 40)]
    for moment in range(10):
        assert not denials.closed(packet, float(moment))
    denials.passed("PUBLISH a/line/l/ready", 40)
    assert not denials.closed(packet, 10.0)
    denials.steady(15.0)
    assert not denials.is_careful


@pytest.mark.parametrize(
    ("packet", "left_out_s"),
    [
        ("PUBLISH a/line/l/ready", 10.0),
        ("PUBLISH a/status", 10.0),
        ("PUBLISH a/stream/s/status", 600.0),
        ("PUBLISH a/line/l/phase", 600.0),
        ("SUBSCRIBE a/cmd/reload", 600.0),
        (UNSUBSCRIBE, 600.0),
    ],
)
def test_what_is_left_out_is_tried_again_after_a_time_at_the_price_of_one_close(packet: str, left_out_s: float) -> None:
    denials = Denials()
    sent = [Unanswered(packet, 40)]
    assert [denials.closed(sent, moment) for moment in (0.0, 5.0, 10.0)] == [False, False, True]
    again_s = 10.0 + left_out_s
    assert denials.refuses(packet, again_s - 0.1, 40)
    assert not denials.refuses(packet, again_s, 40)
    assert denials.closed(sent, again_s)
    assert denials.refuses(packet, again_s, 40)
    assert not denials.refuses(packet, again_s, 39), "the same size proves no lower limit"
    denials.passed(packet, 39)
    assert packet in str(denials.detail)
    again_s += left_out_s
    denials.passed(packet, 40)
    assert denials.detail is None
    assert not denials.closed(sent, again_s)


def test_what_is_never_tried_again_is_forgotten() -> None:
    denials = Denials()
    for moment in (0.0, 5.0, 10.0):
        denials.closed([Unanswered("PUBLISH a", 40)], moment)
    denials.steady(1209.0)
    assert denials.detail is not None
    denials.steady(1210.0)
    assert denials.detail is None


def test_closes_far_apart_leave_nothing_out() -> None:
    denials = Denials()
    for moment in range(10):
        assert not denials.closed([Unanswered("PUBLISH a", 10)], 1000.0 * moment)
        denials.steady(1000.0 * moment + 5.0)


def test_a_packet_that_passed_in_between_is_innocent() -> None:
    denials = Denials()
    for moment in range(10):
        assert not denials.closed([Unanswered("PUBLISH a", 10)], float(moment))
        denials.passed("PUBLISH a")
        denials.steady(float(moment))
        assert not denials.is_careful


def test_a_rare_packet_that_is_closed_on_each_time_is_left_out() -> None:
    """As `health` is sent each 5 s, so that each connection stands for some time before it is closed."""
    denials = Denials()
    packet = [Unanswered("PUBLISH a", 700)]
    assert not denials.closed(packet, 0.0)
    denials.steady(5.0)
    assert not denials.closed(packet, 60.0)
    denials.steady(65.0)
    assert denials.is_careful
    assert denials.closed(packet, 120.0)
    assert denials.refuses("PUBLISH a", 120.0, 700)
    denials.steady(125.0)
    assert not denials.is_careful
    # and a smaller one that is closed on as well shows that the limit is lower: no more is tried
    assert denials.closed([Unanswered("PUBLISH a", 699)], 130.0)
    assert denials.refuses("PUBLISH a", 130.0, 1)
