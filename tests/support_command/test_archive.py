"""`changeover support`: nothing secret is in the archive, whatever it was read from; and it says what it lacks."""

import base64
import os
import re
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from support.brokers import Mosquitto, free_port
from support.tiny_models import write_tiny_model

from agent.files import file_sha256
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.support import archive as archive_module
from agent.support import known_secrets
from agent.support.archive import written
from agent.support.scrubber import Scrubber

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Planted:
    """Passwords that occur nowhere else, each with the place that it was planted in."""

    def __init__(self) -> None:
        self.by_place: dict[str, str] = {}

    def __call__(self, place: str) -> str:
        return self.by_place.setdefault(place, f"Plant{len(self.by_place):02d}xQ{place.encode().hex()[:8]}")

    def found_in(self, members: dict[str, bytes]) -> list[tuple[str, str]]:
        """Return (place, member) of each that can be read, also encoded."""
        return [
            (place, name)
            for place, secret in self.by_place.items()
            for form in {secret, quote(secret, safe=""), *_in_base64(secret)}
            for name, data in members.items()
            if form.encode() in data or form in name
        ]


def _in_base64(secret: str) -> set[str]:
    """Return what base64 makes of it at each offset, without the letters that depend on what stands around."""
    found = set()
    for before in range(3):
        text = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        found.add(text[(before * 8 + 5) // 6 : -2])
    return found


def members_of(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        found = {}
        for member in tar.getmembers():
            data = tar.extractfile(member)
            assert data is not None
            found[member.name] = data.read()
        return found


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    def call(*arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        plain = {name: value for name, value in os.environ.items() if not name.startswith("CHANGEOVER_")}
        plain["PATH"] = f"{tmp_path / 'bin'}:{plain['PATH']}"
        command = [sys.executable, "-m", "agent", "support", *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, check=False, cwd=tmp_path, env=plain | environ, timeout=240
        )

    return call


def write_plant(folder: Path, broker: Mosquitto, plant: Planted) -> Path:
    """Write a plant with a secret in every place that can hold one."""
    write_tiny_model(folder / "cap.onnx")
    (folder / "password").write_text(f"{plant('password file')}\n")
    (folder / "models.toml").write_text(
        f"# fetched with {plant('catalog comment')}\n"
        '[[model]]\nname = "cap"\nvariant = "n"\nversion = "1"\nfile = "cap.onnx"\n'
        f'sha256 = "{file_sha256(folder / "cap.onnx")}"\n'
    )
    sources = [
        f"rtsp://admin:{plant('url')}@127.0.0.1:{free_port()}/live",
        f"rtsp://127.0.0.1:{free_port()}/{plant('path')}/stream",
        f"rtsp://127.0.0.1:{free_port()}/user=admin_password={plant('path as name')}_channel=1",
        f"http://127.0.0.1:{free_port()}/video?user=a&pwd={plant('query')}&x={plant('unnamed query')}",
        f"gst:rtspsrc location=rtsp://127.0.0.1/x user-id=admin user-pw={plant('pipeline')} ! fakesink",
        f'gst:souphttpsrc location=http://127.0.0.1/x cookies=\\"sid={plant("pipeline cookie")}\\" ! fakesink',
        f"gst:souphttpsrc extra-headers=h,Authorization=(string)Basic-{plant('pipeline header')} ! fakesink",
    ]
    streams = "".join(
        f'[[stream]]\nid = "cam-{number}"\nline = "line-1"\nsource = "{source}"\nopen_s = 1\n'
        for number, source in enumerate(sources)
    )
    (folder / "changeover.toml").write_text(
        f"# the old one was {plant('comment')}\n"
        f'[device]\nid = "box"\nstate_dir = "state"\nmemory_budget = "200MiB"\n'
        f'[mqtt]\nurl = "{broker.url}"\nusername = "{plant("user, a token")}"\npassword_file = "password"\n'
        f'[outbox]\nmax_bytes = "1MiB"\n[http]\nbind = ""\n[catalog]\nstore_dir = "store"\n'
        f'[line.line-1]\ndefault = "cap"\n[line.line-1.products]\n"bottle-500" = "cap"\n{streams}'
    )
    return folder / "changeover.toml"


@pytest.fixture
def retaining(mosquitto: Mosquitto, planted: Planted) -> Mosquitto:
    base = "changeover/v1/box"
    alert = '[{{"code":"camera","on":true,"detail":"rtsp://admin:{}@cam/x","token":"{}"}}]'
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "past")) as peer:
        retained = {
            "alerts": alert.format(planted("retained url"), planted("retained token")),
            "status": f"online password={planted('retained text')}",
            "line/line-1/product/set": planted("retained command"),
            "elsewhere": planted("foreign topic"),
        }
        for topic, payload in retained.items():
            peer.publish(f"{base}/{topic}", payload, retain=True)
    return mosquitto


JOURNAL = (
    "event=camera_failed detail='cannot open rtsp://root:{}@10.0.0.9/live'",
    "event=message text='password: {}'",
    "event=message text=\"login with passwd='{}' failed\"",
    "Authorization: Basic {}",
    "> Cookie: theme=dark; session={}",
    "Set-Cookie: JSESSIONID={}; Path=/",
    '{{"level":"error","api_key":"{}"}}',
    "GET http://10.0.0.9/cgi/snap.cgi?loginuse=admin&loginpas={} 401",
    "rtsp://10.0.0.9/{}/main",
    "token={} expired",
    "Authorization: Bearer {}",
    "event=x secret = {}",
    "Kennwort: {}",
    "event=message text='mot de passe: {}'",
    "senha: {}",
)


def test_no_planted_password_is_in_the_archive(
    run: Run, retaining: Mosquitto, planted: Planted, tmp_path: Path
) -> None:
    config = write_plant(tmp_path, retaining, planted)
    said_before = "\n".join(line.format(planted(f"journal {number}")) for number, line in enumerate(JOURNAL))
    known = f"{planted('password file')} {planted('url')} {planted('environment')} {planted('credential')}"
    program(tmp_path / "bin", "journalctl", f"{said_before}\nas it is known: {known}")
    unit = (
        f"# /etc/systemd/system/changeover.service\n# was {planted('unit comment')}\n[Service]\n"
        f'Environment="CHANGEOVER_MQTT__X={planted("unit environment")}" A={planted("unit environment, second")}\n'
        f"SetCredential=x:{planted('unit credential')}\nExecStart=/opt/x --token={planted('unit argument')}\n"
        f"Environment=A=b \\\n    BROKER={planted('unit environment, next line')} \\\n# {planted('unit, between')}\n"
        f'    "LINE=a {planted("unit environment, quoted")}"\n'
        f"ExecStartPost=-/usr/bin/mosquitto_pub -u box -P {planted('unit option')} -t x -n\n"
    )
    program(tmp_path / "bin", "systemctl", f"ActiveState=inactive\n{unit}")
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "mqtt-password").write_text(planted("credential"))
    out = tmp_path / "out.tar.gz"
    answer = run(
        *(str(out), "--config", str(config)),
        CREDENTIALS_DIRECTORY=str(credentials),
        MQTT_PASSWORD=planted("environment"),
        CAMERA_URL=f"rtsp://x:{planted('environment url')}@cam/1",
    )
    assert answer.returncode == 0, answer.stderr
    members = members_of(out)
    assert len(planted.by_place) > 30
    assert planted.found_in(members) == []
    assert not [place for place, secret in planted.by_place.items() if secret in answer.stderr + answer.stdout]
    names = {name.partition("/")[2] for name in members}
    assert {
        *("ABOUT.txt", "check.txt", "configuration.json", "doctor.txt", "hardware.json", "journal.txt", "models.json"),
        *("service.txt", "topics.json", "versions.json"),
    } <= names
    whole = b"".join(members.values()).decode()
    for useful in (
        "rtsp://",
        "mosquitto_pub ***",
        "/opt/x",
        "10.0.0.9",
        "line-1",
        "bottle-500",
        "cap.onnx",
        "rtspsrc",
        "camera_failed",
        "openvino",
        "401",
    ):
        assert useful in whole
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_a_configuration_that_is_no_toml_gives_nothing_away(run: Run, planted: Planted, tmp_path: Path) -> None:
    config = tmp_path / "changeover.toml"
    config.write_text(
        f"[mqtt]\npassword = {planted('unquoted')}\nurl = mqtt://u:{planted('broken url')}@broker\n"
        f'[[stream]]\nsource = "rtsp://a:{planted("source")}@cam/1"\nmy_pin = "{planted("unknown key")}"\n'
    )
    answer = run("out.tar.gz", "--config", str(config))
    assert answer.returncode == 0, answer.stderr
    members = members_of(tmp_path / "out.tar.gz")
    assert planted.found_in(members) == []
    assert "source = ***" in members["out/configuration.json"].decode()
    assert "doctor" in members["out/ABOUT.txt"].decode()


def test_an_unknown_key_keeps_its_value_to_itself(run: Run, planted: Planted, tmp_path: Path) -> None:
    config = tmp_path / "changeover.toml"
    key = "\n".join(base64.b64encode(planted(f"key line {number}").encode() * 3).decode() for number in range(2))
    (tmp_path / "broker.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{key}\n-----END PRIVATE KEY-----\n")
    program(tmp_path / "bin", "journalctl", f"read {key}")
    config.write_text(
        f'[mqtt]\nkey_file = "broker.key"\npasswort = "{planted("misspelt")}"\n'
        f'my_pin = "{planted("unknown key")}"\nurl = "mqtt://127.0.0.1"\n'
    )
    answer = run("out.tar.gz", "--config", str(config))
    assert answer.returncode == 0, answer.stderr
    members = members_of(tmp_path / "out.tar.gz")
    assert planted.found_in(members) == []
    assert "passwort" in members["out/check.txt"].decode()


def test_a_machine_without_anything_still_gives_an_archive_that_says_so(run: Run, tmp_path: Path) -> None:
    program(tmp_path / "bin", "journalctl", "-- No entries --")
    answer = run()
    assert answer.returncode == 0, answer.stderr
    (made,) = tmp_path.glob("changeover-support-*.tar.gz")
    about = next(data for name, data in members_of(made).items() if name.endswith("ABOUT.txt")).decode()
    assert "configuration.json: no configuration was found" in about
    assert "journal.txt: no line can be read: run it with sudo" in about
    assert "missing: journal.txt" in answer.stderr
    again = run(made.name)
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    assert run("/proc/nowhere.tar.gz").returncode == 2


def test_members_and_the_whole_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MEMBER_BYTES", 1000)
    monkeypatch.setattr(archive_module, "WHOLE_BYTES", 2500)
    with written(tmp_path / "x.tar.gz", Scrubber(())) as archive:
        for number in range(4):
            archive.text(f"{number}.txt", "".join(f"line {line}\n" for line in range(1000)))
        missing = list(archive.missing)
    members = members_of(tmp_path / "x.tar.gz")
    assert list(members) == ["x/0.txt", "x/1.txt"]
    assert all(data.endswith(b"line 999\n") and data.startswith(b"[cut") for data in members.values())
    assert missing == ["2.txt: the archive is full", "3.txt: the archive is full"]


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("rtsp://u:p@host:554/a/b?c=d", "rtsp://***@host:554/***"),
        ("rtsp://u:p/with/slash@host/x", "rtsp://***"),
        ("rtsp://u:p#x@host/x", "rtsp://***"),
        ("http://host/x?mail=a@hunter2", "http://***"),
        ("mqtt://broker:1883, which", "mqtt://broker:1883, which"),
        ("password_file: FileNotFoundError", "password_file: FileNotFoundError"),
        ("the broker refused: Not authorized; check", "the broker refused: Not authorized; check"),
        ("event=alert code=camera on=True", "event=alert code=camera on=True"),
        ("passed: 3", "passed: 3"),
        ("Bearer abcdefgh", "Bearer ***"),
        ("a eyJhbGciOi.eyJzdWIiOi.c2ln b", "a *** b"),
    ],
)
def test_what_is_hidden_and_what_is_not(text: str, safe: str) -> None:
    assert Scrubber(()).text(text) == safe


def test_a_long_line_is_cut() -> None:
    assert Scrubber(()).text(f"first\n{'Ab0+/' * 100_000}\nlast") == f"first\n{('Ab0+/' * 1000)[:4096]}\nlast"


def test_the_scheme_of_a_pipeline_s_url_is_no_secret() -> None:
    found = set(
        known_secrets.of_text("gst:rtspsrc location=rtsp://admin:hunter2@10.0.0.5/x user-pw=hunter3 ! fakesink")
    )
    assert {"hunter2", "hunter3"} <= found
    assert not found & {"rtsp:", "rtsp://", "rtsp"}


def test_a_known_path_leaves_the_host() -> None:
    scrubber = Scrubber(["/live/secret", "two\nlines"])
    assert scrubber.text("at http://10.0.0.5:80/live/secret two\nlines") == "at http://10.0.0.5:80/*** ***"


def test_a_known_secret_is_hidden_wherever_it_stands() -> None:
    assert re.sub(r"\W", "", Scrubber(["hunter22"]).text("xhunter22y hunter2")) == "xyhunter2"
