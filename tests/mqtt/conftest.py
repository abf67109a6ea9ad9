"""Stations and observers for every test of the link."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.old_broker import refusing_5
from support.station import Station, observing

from agent.mqtt.embedded import EmbeddedBroker


@pytest.fixture
def observe() -> Callable[[int], Any]:
    """See everything of the device, in a `with` block, by port."""
    return observing


@pytest.fixture
def dials_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let links dial again within 0.2 s, where a test is about several attempts and not about their times."""
    for name in ("_FIRST_RETRY_S", "_LONGEST_RETRY_S"):
        monkeypatch.setattr(f"agent.mqtt.link.link.{name}", 0.2)


@pytest.fixture
def make_station() -> Iterator[Callable[..., Station]]:
    """`make_station(port, **fields)` starts a link that is stopped after the test."""
    made: list[Station] = []

    def make(port: int, **changes: Any) -> Station:  # noqa: ANN401 - fields of LinkSettings
        station = Station(port, **changes)
        made.append(station)
        station.link.start()
        return station

    yield make
    for station in made:
        station.close()


@pytest.fixture
def embedded() -> Iterator[EmbeddedBroker]:
    """Start an embedded broker."""
    broker = EmbeddedBroker(0)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def old_broker(mosquitto: Mosquitto) -> Iterator[int]:
    """Start a broker that refuses MQTT 5 as one of 3.1.1 alone does; yields its port."""
    with refusing_5(mosquitto.port) as port:
        yield port
