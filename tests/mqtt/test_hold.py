"""Standing back from the broker for a while."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.station import Station

from agent.messages.events import LinkDown, LinkUp

BACK_S = 1.5


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_it_leaves_with_all_said_and_without_a_will_and_comes_back_no_sooner(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol)
    station.publisher.send_state(station.topics.status, b"online")
    station.until_heard(LinkUp)
    station.until_acknowledged()
    with observe(mosquitto.port) as observer:
        station.ready("line-1", "0")
        began_s = time.monotonic()
        station.publisher.hold(BACK_S)
        assert not station.link.is_up
        assert "held back" in station.until_heard(LinkDown).detail
        station.until_heard(LinkUp)
        assert time.monotonic() - began_s >= BACK_S
        station.until(lambda: len(observer.of("status")) >= 2)
    assert observer.of("line/line-1/ready") == ["0", "0"], "said before it left, and as the truth when it came back"
    assert "offline" not in observer.of("status")


def test_what_waited_for_room_is_said_before_it_leaves(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    station = make_station(mosquitto.port, protocol="5")
    station.until_heard(LinkUp)
    station.until_acknowledged()
    with observe(mosquitto.port) as observer:
        lines = [f"line-{number}" for number in range(3 * station.link.window)]
        for line in lines:
            station.ready(line, "0")
        station.publisher.send_event(station.topics.of_device("alert"), b"stands back")
        station.publisher.hold(3600.0)
        station.until(lambda: observer.of("alert") == ["stands back"])
        assert not station.link.is_up
        assert all(observer.of(f"line/{line}/ready") == ["0"] for line in lines)


def test_an_event_that_waits_for_the_disk_is_said_before_it_leaves(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], tmp_path: Path
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port, path=tmp_path / "outbox.db")
        station.until_heard(LinkUp)
        # a new connection begins with what the disk holds, and nothing was heard of that yet
        station.publisher.send_event(station.topics.of_device("alert"), b"stands back")
        station.publisher.hold(3600.0)
        station.until(lambda: observer.of("alert") == ["stands back"])
        assert not station.link.is_up


def test_a_connection_that_breaks_before_all_is_said_is_made_again_at_once(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    station = make_station(mosquitto.port)
    station.until_heard(LinkUp)
    station.until_acknowledged()
    mosquitto.freeze()
    station.ready("line-1", "0")
    mosquitto.kill()
    station.publisher.hold(3600.0)
    mosquitto.start()
    with observe(mosquitto.port) as observer:
        station.until_heard(LinkUp)
        station.until(lambda: observer.of("line/line-1/ready") == ["0"])


def test_an_attempt_under_way_is_given_up(mosquitto: Mosquitto, make_station: Callable[..., Station]) -> None:
    station = make_station(mosquitto.port)
    began_s = time.monotonic()
    station.publisher.hold(BACK_S)
    station.until_heard(LinkUp)
    assert time.monotonic() - began_s >= BACK_S


def test_a_frozen_broker_holds_nobody_up_for_long(mosquitto: Mosquitto, make_station: Callable[..., Station]) -> None:
    station = make_station(mosquitto.port)
    station.until_heard(LinkUp)
    station.until_acknowledged()
    mosquitto.freeze()
    station.ready("line-1", "0")
    began_s = time.monotonic()
    station.publisher.hold(BACK_S)
    assert time.monotonic() - began_s < 10
    mosquitto.thaw()
    station.until_heard(LinkUp)
