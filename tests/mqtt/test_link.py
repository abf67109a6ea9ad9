"""The link against real brokers: it comes up, says the truth, notices loss, and is not deaf afterwards."""

import logging
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.brokers import Mosquitto, settings_of
from support.station import Station

from agent.messages.events import LinkDown, LinkUp, Received
from agent.mqtt.blocking_client import connected
from agent.mqtt.link.connection import _reply

each_protocol = pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])


@each_protocol
def test_after_connecting_ready_comes_first_and_status_last(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], protocol: str
) -> None:
    with observe(mosquitto.port) as observer:
        station = make_station(mosquitto.port, protocol=protocol)
        station.publisher.send_state(station.topics.status, b"online")
        station.publisher.send_state(station.topics.of_line("line-1", "phase"), b"idle")
        station.ready("line-1", "0")
        station.ready("line-2", "0")
        up = station.until_heard(LinkUp)
        assert up.protocol == ("3.1.1" if protocol == "3.1.1" else "5")
        station.until(lambda: observer.of("status"))
    said = [item for item in observer.seen if item[0] != "ping"]
    assert [topic for topic, _ in said] == ["line/line-1/ready", "line/line-2/ready", "line/line-1/phase", "status"]
    assert said[-1] == ("status", "online")


def test_auto_falls_back_to_3_1_1_where_5_is_refused(
    old_broker: int, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    station = make_station(old_broker, session_s=60)
    station.ready("line-1", "0")
    assert station.until_heard(LinkUp).protocol == "3.1.1"
    station.until_acknowledged()
    with observe(old_broker) as observer:
        station.until(lambda: observer.of("line/line-1/ready") == ["0"])


@each_protocol
def test_a_broker_killed_and_started_again_is_heard_again(
    mosquitto: Mosquitto, make_station: Callable[..., Station], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol)
    station.until_heard(LinkUp)
    mosquitto.kill()
    station.until_heard(LinkDown)
    assert not station.link.is_up
    mosquitto.start()
    station.until_heard(LinkUp)
    station.until_acknowledged()
    _until_round_trip(station)
    with connected(settings_of(mosquitto.url)) as plc:
        plc.publish("changeover/v1/box-7/line/line-1/product/set", b"bottle-500")
    received = station.until_heard(Received)
    assert (received.topic, received.payload) == ("changeover/v1/box-7/line/line-1/product/set", b"bottle-500")
    assert not received.retained


def test_a_retained_command_says_so(mosquitto: Mosquitto, make_station: Callable[..., Station]) -> None:
    with connected(settings_of(mosquitto.url)) as plc:
        plc.publish("changeover/v1/box-7/line/line-1/product/set", b"17", retain=True)
    station = make_station(mosquitto.port)
    assert station.until_heard(Received).retained


def test_an_old_retained_value_in_flight_never_overwrites_the_truth(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    broker = make_mosquitto(persistence=True)
    station = make_station(broker.port)
    station.ready("line-1", "bottle-500")
    station.until_heard(LinkUp)
    station.until_acknowledged()
    broker.freeze()
    station.ready("line-1", "0")
    station.ready("line-1", "bottle-330")
    station.turn()
    assert station.link.in_flight > 0
    broker.kill()
    station.until_heard(LinkDown)
    station.ready("line-1", "can-500")
    broker.start()
    with observe(broker.port) as observer:
        station.until_heard(LinkUp)
        station.until_acknowledged()
        station.until(lambda: "can-500" in observer.of("line/line-1/ready"))
        _mark(broker)
        station.until(lambda: observer.of("marker"))
        assert set(observer.of("line/line-1/ready")) <= {"bottle-500", "can-500"}
        assert observer.of("line/line-1/ready")[-1] == "can-500"


def test_a_frozen_broker_is_noticed_by_the_ping_and_taken_again(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    station = make_station(mosquitto.port, keepalive_s=2)
    station.until_heard(LinkUp)
    _until_round_trip(station)
    mosquitto.freeze()
    assert "ping" in station.until_heard(LinkDown).detail
    mosquitto.thaw()
    station.until_heard(LinkUp)
    _until_round_trip(station)


@each_protocol
def test_stop_is_acknowledged_and_sends_no_will(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol)
    station.publisher.send_state(station.topics.status, b"online")
    station.ready("line-1", "bottle-500")
    station.until_heard(LinkUp)
    station.until_acknowledged()
    with observe(mosquitto.port) as observer:
        ready = station.topics.of_line("line-1", "ready")
        assert station.publisher.stop([(ready, b"0"), (station.topics.status, b"stopped")], 20)
        _mark(mosquitto)
        station.until(lambda: observer.of("marker"))
    said = [item for item in observer.seen if item[0] in {"status", "line/line-1/ready"}]
    assert said[-2:] == [("line/line-1/ready", "0"), ("status", "stopped")]
    assert "offline" not in observer.of("status")


def test_stop_is_bounded_when_the_broker_is_frozen(mosquitto: Mosquitto, make_station: Callable[..., Station]) -> None:
    station = make_station(mosquitto.port)
    station.until_heard(LinkUp)
    mosquitto.freeze()
    began_s = time.monotonic()
    assert not station.publisher.stop([(station.topics.status, b"stopped")], 0.5)
    assert time.monotonic() - began_s < 10
    mosquitto.thaw()


def test_a_connection_that_ends_without_a_word_leaves_the_will(
    mosquitto: Mosquitto, make_station: Callable[..., Station], observe: Callable[[int], Any]
) -> None:
    station = make_station(mosquitto.port)
    station.publisher.send_state(station.topics.status, b"online")
    station.until_heard(LinkUp)
    station.until_acknowledged()
    with observe(mosquitto.port) as observer:
        station.link.give_up("as if killed")
        station.until(lambda: "offline" in observer.of("status"))


@pytest.mark.usefixtures("dials_soon")
def test_a_wrong_password_is_tried_again_with_one_line_of_log(
    make_mosquitto: Callable[..., Mosquitto],
    make_station: Callable[..., Station],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    passwords = tmp_path / "passwords"
    _set_password(passwords, "right")
    broker = make_mosquitto(more=("allow_anonymous false", f"password_file {passwords}"))
    caplog.set_level(logging.INFO)
    station = make_station(broker.port, username="box-7", password=b"wrong")
    for _ in range(3):
        assert "uthori" in station.until_heard(LinkDown).detail
    lines = [record for record in caplog.records if record.name == "agent.mqtt.link.link"]
    assert len(lines) == 1
    assert "wrong" not in caplog.text
    broker.kill()
    _set_password(passwords, "wrong")
    broker.start()
    station.until_heard(LinkUp)


@pytest.mark.usefixtures("dials_soon")
def test_nobody_listening_is_tried_again(make_station: Callable[..., Station], mosquitto: Mosquitto) -> None:
    mosquitto.kill()
    station = make_station(mosquitto.port)
    for _ in range(2):
        assert "refused" in station.until_heard(LinkDown).detail
    mosquitto.start()
    station.until_heard(LinkUp)


def test_a_broker_that_says_nothing_costs_its_time_out_and_no_more(
    make_station: Callable[..., Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.mqtt.link.link.CONNACK_TIMEOUT_S", 1.0)
    monkeypatch.setattr("agent.mqtt.link.link.Backoff.next_s", lambda _: 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        station = make_station(silent.getsockname()[1], protocol="5")
        station.until_heard(LinkDown)
        took_s = []
        for _ in range(4):
            began_s = time.monotonic()
            assert "CONNACK" in station.until_heard(LinkDown).detail
            took_s.append(time.monotonic() - began_s)
        assert min(took_s) < 1.95, "not twice that, where the machine is not busy"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_huge_message_is_kept_away_or_cut(
    mosquitto: Mosquitto, make_station: Callable[..., Station], protocol: str
) -> None:
    station = make_station(mosquitto.port, protocol=protocol)
    station.until_heard(LinkUp)
    _until_round_trip(station)
    with connected(settings_of(mosquitto.url)) as plc:
        plc.publish("changeover/v1/box-7/line/line-1/product/set", b"x" * 200_000)
        plc.publish("changeover/v1/box-7/line/line-1/product/set", b"17")
    first = station.until_heard(Received)
    if protocol == "5":
        assert first.payload == b"17"
    else:
        assert first.payload == b"x" * (64 * 1024 + 1)
        assert station.until_heard(Received).payload == b"17"


def test_an_answer_finds_its_way_by_response_topic_and_correlation_data(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    station = make_station(mosquitto.port)
    station.until_heard(LinkUp)
    _until_round_trip(station)
    command = ["mosquitto_rr", "-V", "5", "-p", str(mosquitto.port), "-W", "20", "-F", "%p %D"]
    command += ["-t", "changeover/v1/box-7/line/line-1/product/set", "-e", "plc/answers", "-m", "17"]
    command += ["-D", "publish", "correlation-data", "c-1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as asking:
        received = station.until_heard(Received)
        assert received.reply is not None
        assert (received.reply.topic, received.reply.correlation) == ("plc/answers", b"c-1")
        station.publisher.send_event(received.reply.topic, b"done", received.reply.correlation)
        station.until(lambda: asking.poll() is not None)
        assert asking.stdout is not None
        assert asking.stdout.read().split() == ["done", "c-1"]


@pytest.mark.parametrize(
    "asked", ["a/" * 250 + "b", "answers/#", "a\u00ad/b"], ids=["too deep", "a wildcard", "not printable"]
)
def test_a_response_topic_that_would_end_the_link_is_not_used(
    mosquitto: Mosquitto, make_station: Callable[..., Station], asked: str
) -> None:
    station = make_station(mosquitto.port)
    station.until_heard(LinkUp)
    _until_round_trip(station)
    connection = station.link.connection
    properties = SimpleNamespace(ResponseTopic=asked, CorrelationData=b"c-1")
    assert _reply(properties) is None  # type: ignore[arg-type]
    station.publisher.send_event(asked, b"done", b"c-1")
    station.publisher.send_event(station.topics.of_device("ack"), b"done")
    station.until_acknowledged()
    assert station.link.connection == connection, "the broker has closed on it"


def _until_round_trip(station: Station) -> None:
    # a ping goes out after the subscriptions, so its echo means that the broker has them
    station.until(lambda: station.link.round_trip_ms is not None)
    assert station.link.round_trip_ms is not None
    assert station.link.round_trip_ms > 0


def _mark(broker: Mosquitto) -> None:
    with connected(settings_of(broker.url)) as other:
        other.publish("marker", b"here")


def _set_password(file: Path, password: str) -> None:
    file.unlink(missing_ok=True)
    subprocess.run(["mosquitto_passwd", "-b", "-c", file, "box-7", password], check=True)
    file.chmod(0o600)
