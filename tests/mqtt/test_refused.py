"""Connections that only somebody's change can bring about: one clear line, one alert, tried again for ever."""

import logging
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.brokers import Mosquitto
from support.certificates import Authority
from support.station import Station

from agent.messages.events import LinkDown, LinkUp
from agent.mqtt.endpoint.tls import Tls
from agent.mqtt.link.log_dedup import LogDedup

pytestmark = pytest.mark.usefixtures("dials_soon")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


def guarded(make_mosquitto: Callable[..., Mosquitto], key: Path, certificate: Path, *more: str) -> Mosquitto:
    return make_mosquitto(more=(f"keyfile {key}", f"certfile {certificate}", *more))


def assert_refused(station: Station, words: str, caplog: pytest.LogCaptureFixture) -> None:
    """Three attempts, one alert, one line."""
    details: list[str] = []
    while len(details) < 3:
        details.append(station.until_heard(LinkDown).detail)
    assert all(words in detail for detail in details), details
    lines = [record.getMessage() for record in caplog.records if record.name == "agent.mqtt.link.link"]
    assert len(lines) == 1, lines
    assert words in lines[0]


def notices(station: Station) -> list[tuple[str, bool]]:
    return [(event.code, event.on) for event in station.noticed]


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("expired", "has expired"),
        ("wrong host", "is not for 127.0.0.1"),
        ("unknown authority", "an authority that is not trusted: see mqtt.ca_file"),
        ("no client certificate", "did not accept our certificate, or wants one: see mqtt.cert_file"),
        ("a stranger's client certificate", "did not accept our certificate, or wants one: see mqtt.cert_file"),
    ],
)
def test_a_certificate_that_is_no_good_is_told_in_one_line_and_an_alert(  # noqa: PLR0913, PLR0917 - fixtures
    authority: Authority,
    make_mosquitto: Callable[..., Mosquitto],
    make_station: Callable[..., Station],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    case: str,
    words: str,
) -> None:
    caplog.set_level(logging.INFO)
    host = "DNS:elsewhere.example" if case == "wrong host" else "IP:127.0.0.1"
    key, certificate = authority.issue("broker", host, days=-1 if case == "expired" else 2)
    stranger = Authority(tmp_path / "stranger")
    more = (f"cafile {authority.certificate}", "require_certificate true") if "client" in case else ()
    broker = guarded(make_mosquitto, key, certificate, *more)
    tls = Tls(ca_file=str((stranger if case == "unknown authority" else authority).certificate))
    if case.startswith("a stranger"):
        own_key, own = stranger.issue("box-7")
        tls = Tls(tls.ca_file, str(own), str(own_key))
    station = make_station(broker.port, tls=tls)
    assert_refused(station, words, caplog)
    assert notices(station) == [("broker_refused", True)]


def test_with_its_certificate_a_device_is_let_in_and_the_alert_ends(
    authority: Authority, make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station], tmp_path: Path
) -> None:
    key, certificate = authority.issue("broker")
    more = (f"cafile {authority.certificate}", "require_certificate true")
    broker = guarded(make_mosquitto, key, certificate, *more)
    own_key, own = authority.issue("box-7")
    tls = Tls(str(authority.certificate), str(tmp_path / "box.pem"), str(tmp_path / "box.key"))
    station = make_station(broker.port, tls=tls)
    assert "cert_file" in station.until_heard(LinkDown).detail
    shutil.copy(own, tmp_path / "box.pem")
    shutil.copy(own_key, tmp_path / "box.key")
    station.until_heard(LinkUp)
    assert notices(station) == [("broker_refused", True), ("broker_refused", False)]


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_a_wrong_password_is_told_once_and_a_mended_file_is_read(
    make_mosquitto: Callable[..., Mosquitto],
    make_station: Callable[..., Station],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    passwords, own = tmp_path / "passwords", tmp_path / "password"
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "box-7", "right-secret"], check=True)
    passwords.chmod(0o600)
    own.write_text("wrong-secret\n")
    broker = make_mosquitto(more=("allow_anonymous false", f"password_file {passwords}"))
    station = make_station(broker.port, username="box-7", password_file=str(own), protocol=protocol)
    assert_refused(station, "uthori", caplog)
    own.write_text("right-secret\n")
    station.until_heard(LinkUp)
    assert notices(station) == [("broker_refused", True), ("broker_refused", False)]
    assert "secret" not in caplog.text


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_missing_rights_are_told_by_an_alert(
    make_mosquitto: Callable[..., Mosquitto], make_station: Callable[..., Station], tmp_path: Path, protocol: str
) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite elsewhere/#\n")
    rules.chmod(0o600)
    broker = make_mosquitto(more=(f"acl_file {rules}",))
    station = make_station(broker.port, protocol=protocol, keepalive_s=2)
    station.until_heard(LinkUp)
    station.publisher.send_event(station.topics.of_device("alert"), b"x")
    station.until(lambda: ("rights_missing", True) in notices(station))
    station.until(lambda: not station.outbox.has_unsent)
    assert station.link.is_up


def test_reasons_that_alternate_are_one_line_each_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    folded = LogDedup(logging.getLogger("folded"))
    for second in range(0, 120, 2):
        folded.warn("one", float(second))
        folded.warn("other", float(second + 1))
    said = [record.getMessage() for record in caplog.records]
    assert said == ["one", "other", "one (29 more times)", "other (29 more times)"]
