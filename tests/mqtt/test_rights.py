"""The broker's example configuration, as it is shipped: who may command what."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.certificates import Authority
from support.station import Station

from agent.messages.events import LinkDown, LinkUp, Received
from agent.mqtt.blocking_client import BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.mqtt.endpoint.tls import Tls

SHIPPED = Path(__file__).parents[2] / "config" / "mosquitto"
USERS = ("box-7", "box-8", "plc-line-1", "plc-line-2", "operator", "viewer", "stranger")
BASE = "changeover/v1/box-7"


class Plant:
    """A broker of the shipped files, with users and certificates."""

    def __init__(self, folder: Path, broker: Mosquitto, authority: Authority) -> None:
        self.broker = broker
        self.tls = Tls(ca_file=str(authority.certificate))
        self._folder = folder

    def as_user(self, user: str) -> LinkSettings:
        password = f"{user}-secret".encode()
        return LinkSettings("127.0.0.1", self.broker.port, user, tls=self.tls, username=user, password=password)

    def publish(self, user: str, topic: str, payload: str) -> None:
        with connected(self.as_user(user)) as peer:
            peer.publish(topic, payload)


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    authority = Authority(tmp_path / "certs", "ca")
    authority.issue("broker")
    passwords = tmp_path / "changeover.passwords"
    for user in USERS:
        flags = ["-b"] if passwords.exists() else ["-c", "-b"]
        subprocess.run(["mosquitto_passwd", *flags, passwords, user, f"{user}-secret"], check=True)
    rules = tmp_path / "changeover.acl"
    rules.write_text((SHIPPED / "changeover.acl").read_text())
    for file in (passwords, rules):
        file.chmod(0o600)
    broker = Mosquitto(tmp_path, persistence=False, more=())
    text = (SHIPPED / "mosquitto.conf").read_text().replace("/etc/mosquitto", str(tmp_path))
    text = text.replace("listener 8883", f"listener {broker.port} 127.0.0.1").replace(
        "/var/lib/mosquitto", str(tmp_path)
    )
    broker.configure(text)
    broker.start()
    yield Plant(tmp_path, broker, authority)
    broker.kill()


@pytest.fixture
def device(plant: Plant, make_station: Callable[..., Station]) -> Station:
    settings = plant.as_user("box-7")
    station = make_station(plant.broker.port, tls=plant.tls, username="box-7", password=settings.password)
    station.until_heard(LinkUp)
    station.until(lambda: station.link.round_trip_ms is not None)
    return station


def commands(station: Station) -> list[tuple[str, bytes]]:
    return [(one.topic.removeprefix(f"{BASE}/"), one.payload) for one in station.heard if isinstance(one, Received)]


def test_a_plc_commands_its_own_line_an_operator_every_line_and_nobody_else_any(plant: Plant, device: Station) -> None:
    own, other = f"{BASE}/line/line-1/product/set", f"{BASE}/line/line-2/product/set"
    for user in ("viewer", "stranger", "box-8", "plc-line-2"):
        plant.publish(user, own, f"by {user}")
    plant.publish("plc-line-1", other, "by plc-line-1")
    plant.publish("plc-line-1", f"{BASE}/line/line-1/model/set", "by plc-line-1")
    plant.publish("plc-line-1", f"{BASE}/cmd/reload", "by plc-line-1")
    plant.publish("plc-line-1", own, "by plc-line-1")
    plant.publish("operator", own, "by operator")
    plant.publish("operator", other, "by operator")
    plant.publish("operator", f"{BASE}/line/line-1/model/set", "by operator")
    device.until(lambda: ("line/line-1/model/set", b"by operator") in commands(device))
    assert commands(device) == [
        ("line/line-1/product/set", b"by plc-line-1"),
        ("line/line-1/product/set", b"by operator"),
        ("line/line-2/product/set", b"by operator"),
        ("line/line-1/model/set", b"by operator"),
    ]


def test_only_the_device_says_what_is_ready(plant: Plant, device: Station) -> None:
    ready = f"{BASE}/line/line-1/ready"
    with connected(plant.as_user("viewer")) as viewer:
        viewer.subscribe([f"{BASE}/line/+/ready"])
        for user in ("plc-line-1", "operator", "viewer", "box-8"):
            plant.publish(user, ready, f"by {user}")
        device.ready("line-1", "bottle-500")
        device.until_acknowledged()
        arrival = viewer.receive(20)
        assert arrival is not None
        assert arrival.payload == b"bottle-500"


def test_nobody_but_the_device_says_live_or_retains_it(plant: Plant, device: Station) -> None:
    live = f"{BASE}/line/line-1/live"
    for user in ("plc-line-1", "plc-line-2", "operator", "viewer", "box-8"):
        with connected(plant.as_user(user)) as peer:
            peer.publish(live, f"by {user}", retain=True)
    with connected(plant.as_user("plc-line-1")) as plc:
        plc.subscribe([live])
        device.publisher.send_live(live, b"bottle-500")
        arrival = plc.receive(20)
        assert arrival is not None
        assert (arrival.payload, arrival.retained) == (b"bottle-500", False)


def test_nobody_comes_in_without_a_password_or_by_plain_text(
    plant: Plant, make_station: Callable[..., Station]
) -> None:
    changes: list[dict[str, Any]] = [
        {"tls": plant.tls},
        {"tls": plant.tls, "username": "box-7", "password": b"guessed"},
        {"username": "box-7", "password": b"box-7-secret"},
    ]
    for change in changes:
        make_station(plant.broker.port, **change).until_heard(LinkDown)
    with (
        pytest.raises(BlockingClientError),
        connected(LinkSettings("127.0.0.1", plant.broker.port, "x", tls=plant.tls)),
    ):
        pass
