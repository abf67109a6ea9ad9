"""`[outbox] detections`: what each of its words means for what is on disk and what is on the wire."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.station import Station

from agent.messages.events import LinkDown, LinkUp, Listening
from agent.mqtt.outbox.outbox import DOUBT_S
from agent.mqtt.outbox.outbox_item import Kind

DETECTIONS, REPLAY = "stream/cam-1/detections", "stream/cam-1/replay"


def send(station: Station, *numbers: int) -> None:
    for number in numbers:
        station.publisher.send_detection("cam-1", str(number).encode())


def all_of(observer: Any) -> list[int]:  # noqa: ANN401 - an Observer
    return [int(payload) for payload in [*observer.of(DETECTIONS), *observer.of(REPLAY)]]


def test_always_puts_a_detection_on_disk_before_it_goes_live(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], tmp_path: Path
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port, path=tmp_path / "outbox.db", detections="always")
        station.until_heard(Listening)
        station.until(lambda: station.outbox.can_write)
        send(station, 1)
        assert station.link.in_flight == 0, "not before it is written"
        station.until(lambda: observer.of(DETECTIONS) == ["1"])
        station.until(lambda: station.outbox.disk_bytes == 0)
        send(station, *range(2, 200))
        station.until(lambda: station.depth() == 0)
        station.until(lambda: len(all_of(observer)) >= 199)
        assert sorted(all_of(observer)) == list(range(1, 200))


def test_a_state_is_not_overtaken_by_a_detection_that_waited_for_the_disk(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], tmp_path: Path
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port, path=tmp_path / "outbox.db", detections="always")
        station.until_heard(LinkUp)
        for number in range(20):
            send(station, 2 * number)
            station.ready("line-1", str(number))
            send(station, 2 * number + 1)
            station.until(lambda: station.depth() == 0 and station.link.in_flight == 0)
        station.until(lambda: len(all_of(observer)) >= 40)
        ready = -1
        for topic, payload in observer.seen:
            if topic == "line/line-1/ready":
                ready = int(payload)
            elif topic == DETECTIONS:
                assert int(payload) == 2 * ready + 1, "live ones are those after their state"
        assert sorted(all_of(observer)) == list(range(40))


@pytest.mark.parametrize("detections", ["offline", "always"])
def test_a_disk_that_fails_holds_up_no_live_detection(
    mosquitto: Mosquitto,
    make_station: Callable[..., Station],
    observe: Callable[[int], Any],
    tmp_path: Path,
    detections: str,
) -> None:
    (tmp_path / "state").write_text("a file where a folder should be")
    station = make_station(mosquitto.port, path=tmp_path / "state" / "outbox.db", detections=detections)
    station.until_heard(LinkUp)
    station.until(lambda: [(one.code, one.on) for one in station.noticed] == [("outbox_disk", True)])
    with observe(mosquitto.port) as observer:
        send(station, *range(10))
        station.until(lambda: all_of(observer) == list(range(10)))
    station.until(lambda: station.depth() == 0)
    mosquitto.kill()
    station.until_heard(LinkDown)
    send(station, *range(10, 30))
    assert station.depth() == 20
    mosquitto.start()
    station.until(lambda: station.depth() == 0)
    assert station.outbox.dropped(Kind.DETECTION) == 0


def test_offline_writes_what_a_silent_broker_leaves_in_doubt(
    mosquitto: Mosquitto, make_station: Callable[..., Station], tmp_path: Path
) -> None:
    station = make_station(mosquitto.port, path=tmp_path / "outbox.db", keepalive_s=60)
    station.until_heard(LinkUp)
    station.until_acknowledged()
    send(station, 1)
    station.until(lambda: station.depth() == 0 and station.outbox.disk_bytes == 0)
    mosquitto.freeze()
    send(station, 2, 3)
    began_s = time.monotonic()
    station.until(lambda: station.outbox.disk_bytes > 0)
    assert time.monotonic() - began_s >= DOUBT_S * 0.9
    assert station.link.is_up
    mosquitto.thaw()
    station.until(lambda: station.outbox.disk_bytes == 0)


def test_an_unchanged_state_and_answered_messages_write_nothing(
    mosquitto: Mosquitto, make_station: Callable[..., Station], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOUBT_S", "EVENT_DOUBT_S"):  # because a busy machine may answer late
        monkeypatch.setattr(f"agent.mqtt.outbox.outbox.{name}", 1000.0)
    station = make_station(mosquitto.port, path=tmp_path / "outbox.db")
    station.until_heard(LinkUp)
    station.ready("line-1", "bottle-500")
    station.until_acknowledged()
    log = tmp_path / "outbox.db-wal"
    station.until(lambda: log.exists() and time.time() - log.stat().st_mtime > 1)
    before = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    for number in range(300):
        station.ready("line-1", "bottle-500")
        send(station, number)
        station.publisher.send_event(station.topics.of_device("alert"), b"x")
        station.publisher.send_summary("cam-1", b"x")
        station.until(lambda: station.link.in_flight == 0)
    assert not any(station.depth(kind) for kind in Kind)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == before


AGENT = """
import sys
from pathlib import Path
from support.station import Station
station = Station(int(sys.argv[1]), path=Path(sys.argv[2]))
station.link.start()
for number in range(int(sys.argv[3])):
    station.publisher.send_detection("cam-1", str(number).encode())
station.publisher.send_event(station.topics.of_device("alert"), b"kept")
outbox = station.outbox
station.until(lambda: outbox.disk_bytes == outbox.size_bytes > 0)
print("kept", flush=True)
while True:
    station.turn()
"""


@pytest.mark.parametrize("count", [500, 5000])
def test_a_killed_agents_messages_are_replayed_by_the_next(
    make_mosquitto: Callable[..., Mosquitto],
    make_station: Callable[..., Station],
    observe: Callable[[int], Any],
    tmp_path: Path,
    count: int,
) -> None:
    broker = make_mosquitto()
    broker.kill()
    path = tmp_path / "outbox.db"
    command = [sys.executable, "-c", AGENT, str(broker.port), str(path), str(count)]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"kept\n"
        process.send_signal(signal.SIGKILL)
    broker.start()
    with observe(broker.port) as observer:
        station = make_station(broker.port, path=path)
        station.until(lambda: len(observer.of(REPLAY)) >= count, 120)
        station.until(lambda: station.depth() == 0 and observer.of("alert") == ["kept"])
        assert observer.of(REPLAY) == [str(number) for number in range(count)]
