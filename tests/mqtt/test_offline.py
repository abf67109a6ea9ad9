"""Messages kept while there is no broker, and their replay afterwards."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.station import Observer, Station

from agent.messages.events import LinkDown, LinkUp, Listening
from agent.mqtt.outbox.outbox_item import Kind

DETECTIONS = "stream/cam-1/detections"
REPLAY = "stream/cam-1/replay"


def test_an_event_before_the_first_connection_arrives(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port)
        station.publisher.send_event(station.topics.of_device("alert"), b"first")
        station.until(lambda: observer.of("alert") == ["first"])
    station.until(lambda: station.depth(Kind.EVENT) == 0)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_was_in_flight_or_came_later_arrives_after_a_kill(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol)
    station.until_heard(LinkUp)
    _send(station, range(10))
    station.until_acknowledged()
    mosquitto.freeze()
    _send(station, range(10, 20))
    station.publisher.send_event(station.topics.of_device("alert"), b"in flight")
    assert station.link.in_flight == 11
    mosquitto.kill()
    station.until_heard(LinkDown)
    _send(station, range(20, 30))
    station.publisher.send_event(station.topics.of_device("alert"), b"offline")
    mosquitto.start()
    with observe(mosquitto.port) as observer:
        station.until_heard(LinkUp)
        station.until(lambda: len(observer.of(REPLAY)) >= 20)
        _send(station, range(30, 33))
        station.until_acknowledged()
        station.until(lambda: len(observer.of(DETECTIONS)) >= 3)
        assert _seqs(observer, REPLAY) == list(range(10, 30))
        assert _seqs(observer, DETECTIONS) == [30, 31, 32]
        assert observer.of("alert") == ["in flight", "offline"]
    assert station.depth() == 0


def test_500_messages_a_second_arrive_all_once_and_in_order(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port)
        station.until_heard(LinkUp)
        began_s = time.monotonic()
        for seq in range(1000):
            _send(station, [seq])
            while time.monotonic() < began_s + seq / 500:
                station.turn()
        station.until(lambda: len(observer.of(DETECTIONS)) + len(observer.of(REPLAY)) >= 1000)
        station.until(lambda: station.depth() == 0)
        live, later = _seqs(observer, DETECTIONS), _seqs(observer, REPLAY)
    # on a slow machine some find no room in the window, and come later; none twice, none lost, each topic in order
    assert live == sorted(live)
    assert later == sorted(later)
    assert sorted(live + later) == list(range(1000))
    assert station.outbox.dropped(Kind.DETECTION) == 0


def test_a_burst_beyond_the_window_waits_for_room_and_is_live(
    mosquitto: Mosquitto,
    make_station: Callable[..., Station],
    observe: Callable[[int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.mqtt.publishing.send_queue.LIVE_S", 1000.0)
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port)
        station.until_heard(Listening)
        _send(station, range(200))
        assert station.link.in_flight == station.link.window
        assert station.depth() == 200
        station.until(lambda: station.depth() == 0)
        station.until(lambda: len(observer.of(DETECTIONS)) >= 200)
        assert _seqs(observer, DETECTIONS) == list(range(200))
        assert not observer.of(REPLAY)


def test_what_a_silent_broker_leaves_without_room_is_replayed(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port)
        station.until_heard(LinkUp)
        station.until_acknowledged()
        window = station.link.window
        mosquitto.freeze()
        _send(station, range(200))
        late_s = time.monotonic() + 1.5
        station.until(lambda: time.monotonic() > late_s)
        mosquitto.thaw()
        station.until(lambda: station.depth() == 0)
        station.until(lambda: len(observer.of(DETECTIONS)) + len(observer.of(REPLAY)) >= 200)
        assert _seqs(observer, DETECTIONS) == list(range(window))
        assert _seqs(observer, REPLAY) == list(range(window, 200))


def test_more_than_the_socket_takes_is_written_when_it_takes_again(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    station = make_station(mosquitto.port, protocol="3.1.1", keepalive_s=60, ping_topic=None)
    station.until_heard(Listening)
    mosquitto.freeze()
    for _ in range(10):
        station.publisher.send_detection("cam-1", bytes(10_000_000))
    assert station.link.in_flight == 1
    assert not station.link.has_room
    mosquitto.thaw()
    station.until(lambda: station.link.in_flight == 0)


def _send(station: Station, seqs: Any) -> None:  # noqa: ANN401 - any iterable of int
    for seq in seqs:
        station.publisher.send_detection("cam-1", json.dumps({"seq": seq}).encode())


def _seqs(observer: Observer, topic: str) -> list[int]:
    return [json.loads(payload)["seq"] for payload in observer.of(topic)]
