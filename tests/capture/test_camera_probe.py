"""One try of a camera, as the doctor has it done."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from agent.capture.camera_probe import save
from agent.doctor import cameras
from agent.settings import load

PICTURE = cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()


def test_no_argument_of_any_process_holds_the_cameras_password(
    stream_url: str, stall: threading.Event, tmp_path: Path
) -> None:
    stall.set()  # so that it takes the time that it takes to look at it
    command = [sys.executable, "-m", "agent.capture.camera_probe", str(tmp_path / "doctor" / "cam-1.jpg"), "2", "2"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as trial:
        assert trial.stdin is not None
        assert trial.stdout is not None
        trial.stdin.write(stream_url.encode())
        trial.stdin.close()
        shown = psutil.Process(trial.pid).cmdline()
        said = json.loads(trial.stdout.read())
    assert "secret" not in " ".join(shown)
    assert "no answer" in said["error"]
    assert "secret" not in said["error"]


def test_the_doctor_hands_the_source_over_unseen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[object] = []

    def apart(_module: str, arguments: object, given: bytes, _deadline_s: float) -> bytes:
        seen.append((arguments, given))
        return b'{"error": "enough"}'

    monkeypatch.setattr(cameras, "run_apart", apart)
    file = tmp_path / "changeover.toml"
    file.write_text(
        f'[device]\nstate_dir = "{tmp_path}"\n[line.l]\ndefault = "x"\n'
        '[[stream]]\nid = "cam-1"\nline = "l"\nsource = "rtsp://user:secret@127.0.0.1/x"\n'
    )
    assert [one.text for one in cameras.try_cameras(load(file, {}), held=False)] == ["enough"]
    assert seen == [([str(tmp_path / "doctor" / "cam-1.jpg"), "10.0", "3.0"], b"rtsp://user:secret@127.0.0.1/x")]


@pytest.mark.parametrize(("ca_file", "verdict"), [("", "note"), ('ca_file = "ca.pem"\n', "ok")])
def test_the_doctor_says_that_a_certificate_is_not_verified(
    ca_file: str, verdict: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[list[str]] = []

    def apart(_module: str, arguments: list[str], _given: bytes, _deadline_s: float) -> bytes:
        seen.append(arguments[3:])
        return b'{"name": "https://camera/x", "spread": 50.0}'

    monkeypatch.setattr(cameras, "run_apart", apart)
    file = tmp_path / "changeover.toml"
    file.write_text(
        f'[device]\nstate_dir = "{tmp_path}"\n[line.l]\ndefault = "x"\n'
        f'[[stream]]\nid = "cam-1"\nline = "l"\nsource = "https://camera/x"\n{ca_file}'
    )
    (finding,) = cameras.try_cameras(load(file, {}), held=False)
    assert finding.verdict == verdict
    assert ("not verified" in finding.text) == (verdict == "note")
    assert seen == [[str(tmp_path / "ca.pem")] if ca_file else []]


def test_a_picture_takes_the_place_of_the_one_before(tmp_path: Path, make_picture: Callable[..., Path]) -> None:
    picture = tmp_path / "doctor" / "cam-1.png"
    make_picture("doctor/cam-1.png", 9)
    save(picture, PICTURE)
    assert picture.read_bytes() == PICTURE


def test_a_picture_follows_no_link(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (tmp_path / "doctor").mkdir()
    (tmp_path / "doctor" / "cam-1.png").symlink_to(precious)
    save(tmp_path / "doctor" / "cam-1.png", PICTURE)
    assert precious.read_text() == "kept"
    (tmp_path / "elsewhere").symlink_to(tmp_path / "doctor")
    with pytest.raises(OSError, match="elsewhere"):
        save(tmp_path / "elsewhere" / "cam-2.png", PICTURE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_saves_belongs_to_the_service(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    save(tmp_path / "doctor" / "cam-1.png", PICTURE)
    for path in (tmp_path / "doctor", tmp_path / "doctor" / "cam-1.png"):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12345)


@pytest.mark.parametrize(("hwdec", "told"), [("auto", []), ("off", ["--software"])])
def test_the_doctor_opens_a_camera_as_the_agent_would_and_says_who_decodes(
    hwdec: str, told: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[list[str]] = []

    def apart(_module: str, arguments: list[str], _given: bytes, _deadline_s: float) -> bytes:
        seen.append(arguments[3:])
        return b'{"name": "rtsp://camera/x", "spread": 50.0, "decoder": "nvv4l2decoder"}'

    monkeypatch.setattr(cameras, "run_apart", apart)
    file = tmp_path / "changeover.toml"
    file.write_text(
        f'[device]\nstate_dir = "{tmp_path}"\n[line.l]\ndefault = "x"\n'
        f'[[stream]]\nid = "cam-1"\nline = "l"\nsource = "rtsp://camera/x"\nhwdec = "{hwdec}"\n'
    )
    (finding,) = cameras.try_cameras(load(file, {}), held=False)
    assert ", decoded by nvv4l2decoder" in finding.text
    assert seen == [told]
