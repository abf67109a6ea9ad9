"""Brokers that encrypt, and brokers that forbid."""

import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.station import Station

from agent.messages.events import LinkDown, LinkTrouble, LinkUp
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.mqtt.endpoint.tls import Tls

pytestmark = pytest.mark.usefixtures("dials_soon")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Make a key and a certificate for 127.0.0.1 that is its own authority."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return key, certificate


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_over_tls_nothing_is_left_lying_in_the_buffer(
    certificate: tuple[Path, Path],
    make_mosquitto: Callable[..., Mosquitto],
    make_station: Callable[..., Station],
    protocol: str,
) -> None:
    key, own = certificate
    broker = make_mosquitto(more=(f"keyfile {key}", f"certfile {own}"))
    tls = Tls(ca_file=str(own))
    station = make_station(broker.port, tls=tls, protocol=protocol)
    station.ready("line-1", "0")
    station.until_heard(LinkUp)
    station.until(lambda: station.link.round_trip_ms is not None)
    with connected(LinkSettings("127.0.0.1", broker.port, "plc", tls=tls)) as plc:
        plc.subscribe(["changeover/v1/box-7/#"])
        for count in range(300):
            plc.publish("changeover/v1/box-7/line/line-1/product/set", str(count), qos=0)
        station.until(lambda: len(received(station)) == 300)
        assert received(station) == [str(count).encode() for count in range(300)]
        for _ in range(100):
            station.publisher.send_detection("cam-1", b"x" * 10_000)
        station.until(lambda: station.depth() == 0)


def received(station: Station) -> list[Any]:
    return [getattr(event, "payload", None) for event in station.heard if hasattr(event, "payload")]


def test_two_messages_in_one_record_of_tls_are_both_heard(
    certificate: tuple[Path, Path], make_station: Callable[..., Station]
) -> None:
    key, own = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as pool:
        accepting = pool.submit(_accept, listening, context)
        tls = Tls(ca_file=str(own))
        station = make_station(listening.getsockname()[1], tls=tls, protocol="3.1.1", ping_topic=None)
        with accepting.result(30):
            station.until(lambda: received(station) == [b"1", b"2"])
            station.link.stop([], 0)


def _accept(listening: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection = context.wrap_socket(listening.accept()[0], server_side=True)
    connection.recv(4096)
    connack = b"\x20\x02\x00\x00"
    connection.sendall(connack + b"\x30\x04\x00\x01a1" + b"\x30\x04\x00\x01a2")
    return connection


def test_a_stranger_with_the_brokers_name_is_not_spoken_to(
    certificate: tuple[Path, Path], make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station]
) -> None:
    key, own = certificate
    broker = make_mosquitto(more=(f"keyfile {key}", f"certfile {own}"))
    station = make_station(broker.port, tls=Tls(), password=b"secret", username="box-7")
    for _ in range(2):
        assert "CERTIFICATE_VERIFY_FAILED" in station.until_heard(LinkDown).detail


def test_a_missing_file_of_tls_is_told_and_tried_again(
    mosquitto: Mosquitto, make_station: Callable[..., Station]
) -> None:
    station = make_station(mosquitto.port, tls=Tls(ca_file="/nowhere/ca.pem"))
    for _ in range(2):
        assert "No such file" in station.until_heard(LinkDown).detail


def test_a_forbidden_topic_is_told_and_holds_up_nothing(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station], tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite changeover/#\n")
    rules.chmod(0o600)
    broker = make_mosquitto(more=(f"acl_file {rules}",))
    station = make_station(broker.port, protocol="5")
    station.until_heard(LinkUp)
    station.publisher.send_event("forbidden", b"x")
    assert station.until_heard(LinkTrouble).detail == "forbidden: the broker refused a message: Not authorized"
    station.publisher.send_event(station.topics.of_device("alert"), b"x")
    station.until_acknowledged()
