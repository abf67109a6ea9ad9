"""Stations and observers for every test of the link."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.station import Station, observing


@pytest.fixture
def observe() -> Callable[[int], Any]:
    """See everything of the device, in a `with` block, by port."""
    return observing


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
def embedded() -> Iterator[int]:
    """Start an embedded broker; yields its port."""
    command = [sys.executable, "-m", "agent.mqtt.embedded", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield int(line.rpartition(":")[2])
        process.terminate()
        assert process.wait(20) == 0
