"""No message is in memory alone while the link is in doubt, so that a kill loses none."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.brokers import Mosquitto
from support.mini_broker import ACCEPT, MUTE, MiniBroker, Rules
from support.station import Station

from agent.messages.events import LinkDown, Listening

NEVER_S = 1000.0


@pytest.fixture
def broker() -> Iterator[MiniBroker]:
    broker = MiniBroker()
    broker.start()
    yield broker
    broker.stop()


def up(make_station: Callable[..., Station], port: int, path: Path) -> Station:
    station = make_station(port, path=path, protocol="5", keepalive_s=60)
    station.until_heard(Listening)
    station.until(lambda: station.outbox.can_write)
    return station


def is_on_disk(station: Station) -> bool:
    return station.outbox.disk_bytes == station.outbox.size_bytes > 0


@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
def test_what_is_refused_goes_to_disk_at_once(
    broker: MiniBroker,
    make_station: Callable[..., Station],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
) -> None:
    monkeypatch.setattr("agent.mqtt.outbox.outbox.DOUBT_S", NEVER_S)
    monkeypatch.setattr("agent.mqtt.outbox.outbox.EVENT_DOUBT_S", NEVER_S)
    station = up(make_station, broker.port, tmp_path / "outbox.db")
    broker.rules = Rules(on_publish=lambda _topic, _payload: code)
    for number in range(5):
        station.publisher.send_detection("cam-1", b"%d" % number)
    station.publisher.send_event(station.topics.of_device("alert"), b"x")
    station.until(lambda: station.publisher.counters()["detections_refused"] >= 5)
    station.until(lambda: station.publisher.counters()["events_refused"] >= 1)
    station.until(lambda: is_on_disk(station))
    station.publisher.send_detection("cam-1", b"5")
    station.publisher.send_summary("cam-1", b"6")
    station.until(lambda: is_on_disk(station))


def test_what_comes_after_a_late_answer_is_on_disk_before_it_goes_live(
    broker: MiniBroker, make_station: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mqtt.outbox.outbox.LATE_S", NEVER_S)
    station = up(make_station, broker.port, tmp_path / "outbox.db")
    is_mute = True
    broker.rules = Rules(on_publish=lambda topic, _: MUTE if is_mute and topic.endswith("detections") else ACCEPT)
    station.publisher.send_detection("cam-1", b"0")
    station.until(lambda: is_on_disk(station))
    in_flight = station.link.in_flight
    station.publisher.send_detection("cam-1", b"1")
    assert station.link.in_flight == in_flight, "not before it is written"
    station.until(lambda: station.link.in_flight > in_flight)
    assert is_on_disk(station)


@pytest.mark.parametrize("kind", ["detection", "summary", "event"])
def test_without_a_link_a_message_waits_for_no_tick_to_go_to_disk(
    mosquitto: Mosquitto, make_station: Callable[..., Station], tmp_path: Path, kind: str
) -> None:
    station = up(make_station, mosquitto.port, tmp_path / "outbox.db")
    mosquitto.kill()
    station.until_heard(LinkDown)
    send = {
        "detection": lambda: station.publisher.send_detection("cam-1", b"x"),
        "summary": lambda: station.publisher.send_summary("cam-1", b"x"),
        "event": lambda: station.publisher.send_event(station.topics.of_device("alert"), b"x"),
    }
    send[kind]()
    assert station.outbox.waiting_bytes == 0
