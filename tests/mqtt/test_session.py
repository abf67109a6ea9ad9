"""What the broker keeps for the agent while it is away for a short time."""

import time
from collections.abc import Callable, Iterator

import pytest
from support.brokers import Mosquitto
from support.station import Station

from agent.messages.events import LinkDown, LinkTakenOver, LinkUp, Received
from agent.mqtt.link_settings import settings_of
from agent.mqtt.peer import Peer, connected

PRODUCT = "changeover/v1/box-7/line/line-1/product/set"


@pytest.fixture
def plc(mosquitto: Mosquitto) -> Iterator[Peer]:
    with connected(settings_of(mosquitto.url)) as peer:
        yield peer


def products(station: Station) -> list[bytes]:
    return [event.payload for event in station.heard if isinstance(event, Received) and event.topic == PRODUCT]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_of_a_short_outage_arrive_in_order(
    mosquitto: Mosquitto, plc: Peer, make_station: Callable[..., Station], protocol: str
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
    mosquitto: Mosquitto, plc: Peer, make_station: Callable[..., Station], protocol: str
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


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_another_client_of_the_same_id_is_told(
    mosquitto: Mosquitto, make_station: Callable[..., Station], protocol: str
) -> None:
    one = make_station(mosquitto.port, protocol=protocol, session_s=60)
    one.until_heard(LinkUp)
    two = make_station(mosquitto.port, protocol=protocol, session_s=60)

    def is_told() -> bool:
        two.turn()
        return any(isinstance(event, LinkTakenOver) for event in one.heard)

    one.until(is_told)
    place = next(place for place, event in enumerate(one.heard) if isinstance(event, LinkTakenOver))
    if protocol == "3.1.1":
        assert isinstance(one.heard[place - 1], LinkUp), "who stands back for it has said the truth before"
    two.publisher.stop([], 2)
    one.link.hold(1.0)
    one.heard.clear()
    one.until_heard(LinkUp)
    quiet_s = time.monotonic() + 1
    one.until(lambda: time.monotonic() > quiet_s)
    assert not any(isinstance(event, LinkTakenOver) for event in one.heard), "the other is gone"


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
    mosquitto: Mosquitto, plc: Peer, make_station: Callable[..., Station]
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
