"""The broker's session for the agent during a short absence."""

from collections.abc import Callable, Iterator

import pytest
from support.brokers import Mosquitto, settings_of
from support.mini_broker import MiniBroker
from support.station import Station

from agent.messages.events import LinkDown, LinkTakenOver, LinkUp, Listening, Received
from agent.mqtt.blocking_client import BlockingClient, connected

PRODUCT = "changeover/v1/box-7/line/line-1/product/set"


@pytest.fixture
def plc(mosquitto: Mosquitto) -> Iterator[BlockingClient]:
    with connected(settings_of(mosquitto.url)) as peer:
        yield peer


def products(station: Station) -> list[bytes]:
    return [event.payload for event in station.heard if isinstance(event, Received) and event.topic == PRODUCT]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_of_a_short_outage_arrive_in_order(
    mosquitto: Mosquitto, plc: BlockingClient, make_station: Callable[..., Station], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol, session_s=60)
    station.until_heard(LinkUp)
    station.until(lambda: station.link.round_trip_ms is not None)
    station.link.hold(1.0)
    assert not station.link.is_up
    for count in range(10):
        plc.publish(PRODUCT, str(count))
    station.until_heard(LinkDown)
    station.until(lambda: len(products(station)) >= 10)
    assert products(station) == [str(count).encode() for count in range(10)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_of_a_long_outage_do_not_surprise(
    mosquitto: Mosquitto, plc: BlockingClient, make_station: Callable[..., Station], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol, session_s=1)
    station.until_heard(LinkUp)
    station.until(lambda: station.link.round_trip_ms is not None)
    station.link.hold(4.0)
    plc.publish(PRODUCT, "old")
    station.until_heard(LinkUp)
    station.until(lambda: station.link.round_trip_ms is not None)
    plc.publish(PRODUCT, "new")
    station.until(lambda: products(station))
    assert products(station) == [b"new"]


def test_another_client_of_the_same_id_is_told_where_the_broker_says_so(make_station: Callable[..., Station]) -> None:
    broker = MiniBroker()
    broker.start()
    one = make_station(broker.port, protocol="5")
    one.until_heard(Listening)
    two = make_station(broker.port, protocol="5")
    two.until_heard(LinkUp)
    one.until_heard(LinkTakenOver)
    broker.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_short_connections_alone_are_no_twin(
    mosquitto: Mosquitto, make_station: Callable[..., Station], protocol: str
) -> None:
    one, two = (make_station(mosquitto.port, protocol=protocol, session_s=60) for _ in range(2))

    def is_refused() -> bool:
        two.turn()
        return ("broker_refused", True) in [(notice.code, notice.on) for notice in one.noticed]

    one.until(is_refused)
    assert not any(isinstance(event, LinkTakenOver) for event in one.heard + two.heard)
    two.publisher.stop([], 2)
    one.until(lambda: ("broker_refused", False) in [(notice.code, notice.on) for notice in one.noticed])


def test_a_broker_that_is_killed_takes_nothing_over(mosquitto: Mosquitto, make_station: Callable[..., Station]) -> None:
    station = make_station(mosquitto.port, protocol="5")
    station.until_heard(LinkUp)
    mosquitto.restart()
    station.until_heard(LinkDown)
    station.until_heard(LinkUp)
    assert not any(isinstance(event, LinkTakenOver) for event in station.heard)


def connects(broker: Mosquitto, client: str = "box-7") -> int:
    """Return how often the broker was connected to by `client`, as its log says."""
    return sum(f" as {client} " in line for line in broker.log().splitlines() if "New client connected" in line)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_broker_that_knows_nothing_of_us_is_connected_to_once(
    mosquitto: Mosquitto, make_station: Callable[..., Station], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol, session_s=60)
    station.until_heard(LinkUp)
    station.until(lambda: station.link.round_trip_ms is not None)
    assert connects(mosquitto) == 1


def test_what_waits_in_a_session_of_before_the_start_is_forgotten_and_no_will_is_sent(
    mosquitto: Mosquitto, plc: BlockingClient, make_station: Callable[..., Station]
) -> None:
    before = make_station(mosquitto.port, protocol="3.1.1", session_s=60)
    before.until_heard(LinkUp)
    before.until(lambda: before.link.round_trip_ms is not None)
    assert before.publisher.stop([], 20)
    plc.subscribe([before.topics.status])
    plc.publish(PRODUCT, "old")
    after = make_station(mosquitto.port, protocol="3.1.1", session_s=60)
    after.until_heard(LinkUp)
    after.until(lambda: after.link.round_trip_ms is not None)
    assert not any(isinstance(event, LinkDown) for event in after.heard)
    plc.publish(PRODUCT, "new")
    after.until(lambda: products(after))
    assert products(after) == [b"new"]
    plc.publish(before.topics.status, "marker")
    arrival = plc.receive(30)
    assert arrival is not None
    assert arrival.payload == b"marker", "a will was sent"
