"""`changeover doctor` as a user calls it, beside a real broker, with real cameras' stand-ins and models."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import tomlkit
from support.brokers import Mosquitto, free_port
from support.gpu_hosts import CUDA_12, Driver, gpu_wheel, host
from support.running_agent import RunningAgent

from agent.doctor.broker import try_broker
from agent.doctor.checkpoints import try_checkpoints
from agent.doctor.models import named_models
from agent.doctor.service import sandbox_of
from agent.inference import sandbox
from agent.inference.processors import compute, probe_process
from agent.inference.processors.probe_process import probe
from agent.inference.sandbox.probe_process import main
from agent.messages.short_lived.probe_results import ProbedSandbox
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.processes.walls import missing_walls
from agent.settings import Settings, load

UNIT = Path(__file__).parents[2] / "systemd" / "changeover.service"
Doctor = Callable[..., "subprocess.CompletedProcess[str]"]


def write_picture(path: Path) -> None:
    assert cv2.imwrite(str(path), np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8))


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Give a function that writes a plant beside a broker, lets `changes` spoil it, and calls the doctor."""

    def call(broker: Mosquitto, changes: Callable[[dict[str, Any]], None]) -> "subprocess.CompletedProcess[str]":
        def all_changes(settings: dict[str, Any]) -> None:
            write_picture(tmp_path / "one.png")
            settings["stream"][0]["source"] = "one.png"
            settings["device"]["memory_budget"] = "200MiB"
            settings["outbox"] = {"max_bytes": "1MiB"}
            changes(settings)

        with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
            config = RunningAgent(tmp_path, broker.url, peer, all_changes).config
        command = [sys.executable, "-m", "agent", "doctor", "--config", str(config)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)

    return call


def lines(answer: "subprocess.CompletedProcess[str]", verdict: str) -> list[str]:
    return [line[6:] for line in answer.stdout.splitlines() if line.startswith(f"{verdict:<5} ")]


def test_what_is_good_is_said_line_by_line(doctor: Doctor, mosquitto: Mosquitto, tmp_path: Path) -> None:
    answer = doctor(mosquitto, lambda _settings: None)
    assert (answer.returncode, lines(answer, "fail"), answer.stderr) == (0, [], "")
    good = "\n".join(lines(answer, "ok"))
    for subject in ("device", "runtime", "memory", "permissions", "disk", "broker", "broker round trip"):
        assert f"{subject}: " in good
    for subject in ("rights to read", "rights to write", "camera cam-1", "model alpha:n@1", "model beta:n@1"):
        assert f"{subject}: " in good
    assert "clock: " in answer.stdout
    assert "compute: auto: models run on " in answer.stdout
    assert re.search(
        r"model alpha:n@1: detect \(\w+\), loads in \d+ ms on cpu \(\w+ [\d.]+, CPU(ExecutionProvider)?\)", good
    )
    assert "checkpoints: " in answer.stdout
    assert "210 MB for models" in good
    saved = cv2.imread(str(tmp_path / "state" / "doctor" / "cam-1.jpg"))
    assert saved is not None
    assert saved.shape == (48, 64, 3)


def test_each_thing_that_is_wrong_fails_with_what_to_do(
    doctor: Doctor, make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic readwrite changeover/v1/box/ping\ntopic read changeover/v1/box/#\ntopic read odd/#\n")
    broker = make_mosquitto(more=(f"acl_file {rules}",))

    def spoil(settings: dict[str, Any]) -> None:
        settings["stream"][0]["source"] = "gst:nosuchsrc"
        settings["stream"][1]["source"] = "/dev/video99?size=640x480"
        settings["device"]["memory_budget"] = "900GiB"
        settings["device"]["state_dir"] = "/proc/nowhere"
        settings["outbox"] = {"max_bytes": "9TiB"}
        (tmp_path / "alpha-n.onnx").write_bytes(b"another file")

    answer = doctor(broker, spoil)
    assert (answer.returncode, answer.stderr) == (1, "")
    failed = dict(line.split(": ", 1) for line in lines(answer, "fail"))
    assert failed.keys() == {
        *("memory", "permissions", "disk", "rights to write", "camera cam-1", "camera cam-2", "model alpha:n@1")
    }
    assert "lower device.memory_budget" in failed["memory"]
    assert 'no element "nosuchsrc"' in failed["camera cam-1"]
    assert "plugged in" in failed["camera cam-2"]
    assert "line/line-1/ready" in failed["rights to write"]
    assert "sha256" in failed["model alpha:n@1"]


def test_groups_are_told_what_they_get(doctor: Doctor, mosquitto: Mosquitto) -> None:
    def in_groups(settings: dict[str, Any]) -> None:
        settings["device"]["memory_budget"] = "200MiB"
        settings["line"]["line-2"]["group"] = "press"
        settings["group"] = {"press": {"memory": "500MiB"}}

    answer = doctor(mosquitto, in_groups)
    told = [line for line in answer.stdout.splitlines() if " groups: " in line]
    assert len(told) == 2
    assert "default 0 MB, press 210 MB guaranteed: no model fits default, so lower [group.*] memory" in told[0]
    assert told[0].startswith("fail")
    assert "the kernel" in told[1]


def test_groups_that_ask_for_more_than_there_is_are_told_so(doctor: Doctor, mosquitto: Mosquitto) -> None:
    def in_groups(settings: dict[str, Any]) -> None:
        settings["device"]["memory_budget"] = "200MiB"
        settings["line"]["line-2"]["group"] = "press"
        settings["group"] = {"default": {"memory": "500MiB"}, "press": {"memory": "500MiB"}}

    told = [line for line in doctor(mosquitto, in_groups).stdout.splitlines() if " groups: " in line]
    assert "default 105 MB, press 105 MB guaranteed, less than" in told[0]


def test_a_gpu_that_cannot_start_fails_with_what_is_missing(doctor: Doctor, mosquitto: Mosquitto) -> None:
    def on_a_gpu(settings: dict[str, Any]) -> None:
        settings["device"]["compute"] = "cuda:99"  # which no box has

    answer = doctor(mosquitto, on_a_gpu)
    failed = dict(line.split(": ", 1) for line in lines(answer, "fail"))
    assert failed.keys() == {"compute", "model alpha:n@1", "model beta:n@1"}
    assert failed["compute"].startswith("cuda:99: cuda:99 cannot start, and models are refused: ")
    assert failed["model alpha:n@1"].startswith("alpha:n@1: compute cuda:99 did not start: ")


def test_what_compute_chooses_is_told_with_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    gpu = gpu_wheel(tmp_path)
    monkeypatch.setattr(compute, "host", host(None, CUDA_12, gpu))
    probed = probe("auto")
    assert (probed.compute, probed.missing) == ("cpu", ("no driver (libcuda.so.1 cannot be loaded)",))
    monkeypatch.setattr(compute, "host", host(Driver(), CUDA_12, gpu))
    monkeypatch.setattr(probe_process, "version_of", lambda _: "1.23.2")
    probed = probe("auto")
    assert (probed.compute, probed.missing) == ("cuda:0", ())
    assert probed.old_runtime is not None
    assert "1.23.2 stops every line" in probed.old_runtime
    assert probe("tensorrt:0").missing == ("no TensorRT (no Python module tensorrt)",)


def test_checkpoints_are_tried_for_real_and_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (finding,) = try_checkpoints()
    wall = next(iter(missing_walls().values()), "")
    words = f"note  checkpoints: {wall}" if wall else "ok    checkpoints: a .pt is opened behind limits, files, calls"
    assert str(finding).startswith(words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            b'{"error": "the kernel has no Landlock"}',
            "note  checkpoints: the kernel has no Landlock: a .pt is not prepared",
        ),
        (
            b'{"walls": ["calls"], "could": ["open a socket"]}',
            "fail  checkpoints: a process shut in could open a socket",
        ),
    ],
)
def test_a_wall_that_is_missing_or_leaks_is_said(said: bytes, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.doctor.checkpoints.run_apart", lambda *_: said)
    (finding,) = try_checkpoints()
    assert str(finding).startswith(words)


def test_what_a_process_shut_in_can_do_all_the_same_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "enter", lambda *_: ("limits",))
    folder = tmp_path / "folder"
    folder.mkdir()
    could = ("open a socket", "write beside its folder", "read beside its folder", "start a process")
    before = psutil.Process().children()
    assert main(folder) == ProbedSandbox(walls=("limits",), could=could)
    assert psutil.Process().children() == before, "nobody is left, not even as a zombie"


def test_the_variants_that_a_schedule_brings_are_tried_too() -> None:
    rule = {"line": "line-1", "from": "22:00", "to": "06:00"}
    raw = {
        "line": {"line-1": {"default": "alpha", "products": {"17": "beta", "18": "beta:m"}}},
        "schedule": [rule | {"variant": "x"}, rule | {"model": "gamma"}],
    }
    named = {(str(reference), variant) for reference, variant in named_models(Settings.model_validate(raw))}
    assert named == {
        *(("alpha", "n"), ("beta", "n"), ("beta:m", "n"), ("gamma", "n")),
        *(("alpha", "x"), ("beta", "x"), ("beta:m", "x")),
    }


def test_no_broker_is_one_line_and_the_rest_goes_on(
    doctor: Doctor, mosquitto: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHANGEOVER_MQTT__URL", f"mqtt://127.0.0.1:{free_port()}")
    answer = doctor(mosquitto, lambda _settings: None)
    assert answer.returncode == 1
    (failed,) = lines(answer, "fail")
    assert failed.startswith("broker: no link to 127.0.0.1:")
    assert "mqtt.url" in failed
    assert any(line.startswith("model beta") for line in lines(answer, "ok"))


def test_a_slow_broker_is_told_how_to_be_quick(
    mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.doctor.broker._SLOW_MS", 0.0)
    file = tmp_path / "changeover.toml"
    file.write_text(tomlkit.dumps({"mqtt": {"url": mosquitto.url}}))
    said = [str(finding) for finding in try_broker(load(file, {}))]
    assert [one for one in said if one.startswith("note  broker round trip") and "set_tcp_nodelay true" in one]


def test_a_wrong_configuration_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text(tomlkit.dumps({"device": {"idd": "x"}}))
    command = [sys.executable, "-m", "agent", "doctor", "--config", str(file)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert answer.returncode == 2
    assert "device.idd" in answer.stderr


def test_the_sandbox_is_the_units_own_without_what_makes_it_a_service() -> None:
    text = UNIT.read_text(encoding="utf-8") + "\n# /etc/systemd/x.conf\n[Service]\nDeviceAllow=char-nvidia rw\n"
    found = sandbox_of(text)
    assert "User=changeover" in found
    assert "SystemCallFilter=@system-service" in found
    assert "LoadCredential=mqtt-password:/etc/changeover/credentials/mqtt-password" in found
    assert found[-1] == "DeviceAllow=char-nvidia rw"
    assert not [one for one in found if one.startswith(("Exec", "Type", "Restart", "Watchdog", "WantedBy", "After"))]
