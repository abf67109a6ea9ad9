"""Messages that the broker refuses: offered again in their order, counted, and never taken for said."""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from support.mini_broker import ACCEPT, CLOSE, MUTE, MiniBroker, Rules
from support.station import Station
from support.waiting import together

from agent.messages.events import LinkUp
from agent.mqtt.endpoint.connect_errors import Outcome, outcome_of
from agent.mqtt.outbox.outbox_item import Kind
from agent.mqtt.publishing.retry_backoff import Retries

FOR_THE_MOMENT = [0x80, 0x83, 0x97]


Make = Callable[[], tuple[MiniBroker, Station]]


@pytest.fixture
def make() -> Iterator[Make]:
    """`make()` gives a broker and a station that has said that it is online."""
    with ExitStack() as stack:

        def make_both() -> tuple[MiniBroker, Station]:
            broker = MiniBroker()
            broker.start()
            stack.callback(broker.stop)
            station = Station(broker.port, protocol="5")
            stack.callback(station.close)
            station.link.start()
            return broker, said_online(station, broker)

        yield make_both


@pytest.fixture
def broker() -> Iterator[MiniBroker]:
    broker = MiniBroker()
    broker.start()
    yield broker
    broker.stop()


def up(make_station: Callable[..., Station], broker: MiniBroker) -> Station:
    return said_online(make_station(broker.port, protocol="5"), broker)


def said_online(station: Station, broker: MiniBroker) -> Station:
    station.publisher.send_state(station.topics.status, b"online")
    station.ready("line-1", "bottle-500")
    station.until(lambda: broker.accepted("/status") == [b"online"])
    return station


def refusing(broker: MiniBroker, end: str, *codes: int) -> None:
    """Answer the next publications on topics with this end so."""
    left = list(codes)
    broker.rules = Rules(on_publish=lambda topic, _: left.pop(0) if topic.endswith(end) and left else ACCEPT)


def test_a_refused_ready_is_said_again_within_five_seconds(make: Make) -> None:
    def is_said_again(broker: MiniBroker, station: Station, code: int) -> None:
        refusing(broker, "/ready", code, code, code)
        station.ready("line-1", "0")
        began_s = time.monotonic()
        station.until(lambda: broker.accepted("/ready")[-1] == b"0")
        assert time.monotonic() - began_s < 5
        assert broker.connects == 1
        assert station.publisher.counters()["states_refused"] == 3

    together({f"{code:#x}": partial(is_said_again, *make(), code) for code in FOR_THE_MOMENT})


def test_a_refused_state_is_said_again_with_its_newest_value(
    broker: MiniBroker, make_station: Callable[..., Station]
) -> None:
    station = up(make_station, broker)
    broker.rules = Rules(on_publish=lambda _, payload: ACCEPT if payload == b"ready" else 0x97)

    def said_last(phase: bytes) -> bool:
        return bool(broker.of("/phase")) and broker.of("/phase")[-1].payload == phase

    for phase in (b"preparing", b"switching", b"ready"):
        station.publisher.send_state(station.topics.of_line("line-1", "phase"), phase)
        station.until(partial(said_last, phase))
    station.until(lambda: b"ready" in broker.accepted("/phase"))
    station.until_acknowledged()
    assert broker.accepted("/phase") == [b"ready"], "older values were refused, and not said again"
    assert broker.retained[station.topics.of_line("line-1", "phase")] == b"ready"


def test_a_ready_0_that_is_not_accepted_gives_the_link_up_so_that_the_will_speaks(make: Make) -> None:
    def is_given_up(broker: MiniBroker, station: Station, answer: int) -> None:
        status = station.topics.status
        broker.rules = Rules(on_publish=lambda topic, _: answer if topic.endswith("/ready") else ACCEPT)
        station.ready("line-1", "0")
        began_s = time.monotonic()
        station.until(lambda: broker.retained[status] == b"offline")
        assert 4 < time.monotonic() - began_s < 9
        # on the next connection `status` does not say online while `ready` is not said
        station.until(lambda: broker.connects == 2)
        assert broker.retained[status] == b"offline"
        broker.rules = Rules()
        station.until(lambda: broker.retained[status] == b"online", 60)
        assert broker.accepted("/ready")[-1] == b"0"

    together({f"{answer:#x}": partial(is_given_up, *make(), answer) for answer in (0x97, 0x87, MUTE)})


def test_three_seconds_of_refusals_at_15_fps_lose_nothing_and_keep_the_order(make: Make) -> None:
    together({f"{code:#x}": partial(loses_nothing, *make(), code) for code in FOR_THE_MOMENT})


def loses_nothing(broker: MiniBroker, station: Station, code: int) -> None:
    began_s = time.monotonic()
    broker.rules = Rules(
        on_publish=lambda topic, _: (
            code if 1 <= time.monotonic() - began_s < 4 and topic.endswith(("/detections", "/replay", "/alert")) else 0
        )
    )

    def has_passed(seconds: float) -> bool:
        return time.monotonic() - began_s >= seconds

    for number in range(90):
        station.until(partial(has_passed, number / 15))
        station.publisher.send_detection("cam-1", b"%d" % number)
        station.publisher.send_event(station.topics.of_device("alert"), b"%d" % number)
    station.until(lambda: not station.depth() and not station.depth(Kind.EVENT))
    live, replayed = ([int(one) for one in broker.accepted(end)] for end in ("/detections", "/replay"))
    assert sorted(live + replayed) == list(range(90))
    assert (live, replayed) == (sorted(live), sorted(replayed))
    assert [int(one) for one in broker.accepted("/alert")] == list(range(90))
    counters = station.publisher.counters()
    assert counters["events_refused"] > 0
    assert counters["detections_refused"] > 0
    assert counters["events_dropped"] == counters["detections_dropped"] == 0


@pytest.mark.parametrize("end", ["/replay", "/alert"])
def test_none_overtakes_the_first_that_is_refused(
    broker: MiniBroker, make_station: Callable[..., Station], end: str
) -> None:
    count = itertools.count(1)
    broker.rules = Rules(on_publish=lambda topic, _: 0x97 if topic.endswith(end) and next(count) in {1, 20} else ACCEPT)
    station = make_station(broker.port, protocol="5")
    for number in range(60):
        station.publisher.send_detection("cam-1", b"%d" % number)
        station.publisher.send_event(station.topics.of_device("alert"), b"%d" % number)
    station.until(lambda: not station.depth() and not station.depth(Kind.EVENT))
    assert [int(one) for one in broker.accepted(end)] == list(range(60))


def test_a_topic_without_rights_is_an_alert_that_names_it_and_the_others_go_on(
    broker: MiniBroker, make_station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mqtt.publishing.retry_backoff._DENIED_FIRST_S", 1.0)
    station = up(make_station, broker)
    is_denied = True
    broker.rules = Rules(on_publish=lambda topic, _: 0x87 if topic.endswith("/ack") and is_denied else ACCEPT)
    for number in range(20):
        station.publisher.send_event(station.topics.of_device("ack"), b"%d" % number)
        station.publisher.send_event(station.topics.of_device("alert"), b"%d" % number)
    station.until(lambda: len(broker.accepted("/alert")) == 20)
    station.until(
        lambda: any(one.on and station.topics.of_device("ack") in (one.detail or "") for one in station.noticed)
    )
    assert station.noticed[-1].code == "rights_missing"
    station.until(lambda: station.depth(Kind.EVENT) == 20)
    is_denied = False
    station.until(lambda: [int(one) for one in broker.accepted("/ack")] == list(range(20)))
    station.until(lambda: not station.noticed[-1].on)
    assert station.publisher.counters()["events_dropped"] == 0


def test_a_topic_that_alone_is_refused_for_ever_holds_up_no_other(
    broker: MiniBroker, make_station: Callable[..., Station]
) -> None:
    station = up(make_station, broker)
    broker.rules = Rules(on_publish=lambda topic, _: 0x83 if topic.endswith("/ack") else ACCEPT)
    station.publisher.send_event(station.topics.of_device("ack"), b"refused")
    station.until(lambda: broker.of("/ack"))
    station.publisher.send_event(station.topics.of_device("alert"), b"behind it")
    counts = itertools.count()

    def others_pass() -> bool:
        station.publisher.send_state(station.topics.of_device("cache"), b"%d" % next(counts))
        return bool(broker.accepted("/alert") and station.noticed)

    station.until(others_pass)
    assert [one.code for one in station.noticed] == ["rights_missing"]
    assert station.depth(Kind.EVENT) == 1


def test_last_words_that_are_refused_are_said_again(broker: MiniBroker, make_station: Callable[..., Station]) -> None:
    station = up(make_station, broker)
    refusing(broker, "/ready", 0x97, 0x97)
    ready = station.topics.of_line("line-1", "ready")
    assert station.publisher.stop([(ready, b"0"), (station.topics.status, b"stopped")], 10)
    # the scripted broker answers before it retains
    station.until(lambda: broker.retained[ready] == b"0" and broker.retained[station.topics.status] == b"stopped")


def test_last_words_that_stay_refused_leave_the_will(broker: MiniBroker, make_station: Callable[..., Station]) -> None:
    station = up(make_station, broker)
    broker.rules = Rules(on_publish=lambda topic, _: 0x97 if topic.endswith("/ready") else ACCEPT)
    assert not station.publisher.stop([(station.topics.of_line("line-1", "ready"), b"0")], 1)
    station.until(lambda: broker.retained[station.topics.status] == b"offline")


def test_what_3_1_1_refuses_closes_the_link_and_is_sent_again(
    broker: MiniBroker, make_station: Callable[..., Station]
) -> None:
    station = make_station(broker.port, protocol="3.1.1")
    station.until_heard(LinkUp)
    left = [CLOSE]
    broker.rules = Rules(on_publish=lambda topic, _: left.pop() if topic.endswith("/alert") and left else ACCEPT)
    station.publisher.send_event(station.topics.of_device("alert"), b"e")
    station.until(lambda: broker.accepted("/alert") == [b"e"])
    assert broker.connects == 2


def test_reason_codes_are_told_apart() -> None:
    assert {outcome_of(code) for code in (0x00, 0x10)} == {Outcome.ACCEPTED}
    assert {outcome_of(code) for code in (*FOR_THE_MOMENT, 0x91, 0xFF)} == {Outcome.LATER}
    assert {outcome_of(code) for code in (0x87, 0x90)} == {Outcome.DENIED}


@pytest.mark.parametrize(("is_urgent", "waits_s"), [(False, [30.0, 60.0, 120.0]), (True, [10.0, 10.0, 10.0])])
def test_a_denied_topic_waits_longer_each_time_but_not_an_urgent_one(*, is_urgent: bool, waits_s: list[float]) -> None:
    retries = Retries()
    now_s = 100.0
    for wait_s in waits_s:
        retries.answered("a", Outcome.DENIED, now_s, is_urgent=is_urgent)
        assert retries.is_denied("a", now_s + wait_s - 0.1)
        now_s += wait_s
        assert not retries.is_denied("a", now_s)


def test_a_new_connection_tries_everything_at_once() -> None:
    retries = Retries()
    for _ in range(20):
        retries.answered("a", Outcome.LATER, 100.0)
    retries.answered("b", Outcome.DENIED, 100.0)
    assert retries.is_denied("b", 101.0)
    retries.begin()
    assert not retries.is_held(100.0)
    assert not retries.is_denied("b", 101.0)
    assert retries.is_careful(101.0)
