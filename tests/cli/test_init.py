"""`changeover init`: asks, tries and writes; what it writes passes the check, and nothing is ever overwritten."""

import os
import pty
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from support.brokers import Mosquitto, free_port
from support.tiny_models import write_tiny_model

from agent.init import place as module
from agent.init.place import Place, place_of
from agent.init.reading import read_camera, with_password
from agent.messages.errors import MistakeError
from agent.settings import load

Answer = subprocess.CompletedProcess[str]
Init = Callable[..., Answer]


@pytest.fixture
def init(tmp_path: Path) -> Init:
    """Run `changeover init` in a folder with a model and a picture; `answers` come by stdin, which then ends."""
    write_tiny_model(tmp_path / "cap-check.onnx")
    picture = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    assert cv2.imwrite(str(tmp_path / "one.png"), picture)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("CHANGEOVER_")}

    def call(*options: str, answers: str = "") -> Answer:
        command = [sys.executable, "-m", "agent", "init", "--config", "changeover.toml", *options]
        return subprocess.run(
            command, input=answers, capture_output=True, text=True, check=False, cwd=tmp_path, env=plain, timeout=240
        )

    return call


def options(broker: str, *more: str) -> tuple[str, ...]:
    given = ("--line", "line-1", "--product", "bottle-500=cap-check.onnx", "--camera", "one.png", "--broker", broker)
    return (*given, *more)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_line(line: str, folder: Path) -> Answer:
    """Run a line that was printed to be pasted."""
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, cwd=folder, timeout=120)


def test_options_alone_are_enough_and_what_is_written_passes_the_check(
    init: Init, mosquitto: Mosquitto, tmp_path: Path
) -> None:
    answer = init(*options(mosquitto.url, "--device", "box-7"))
    assert answer.returncode == 0, answer.stderr
    assert "ok    camera cam-1" in answer.stderr
    assert "ok    broker: connected" in answer.stderr
    check, run, switch = answer.stdout.splitlines()[-3:]
    assert "run --config" in run
    assert "switch line-1 bottle-500" in switch
    checked = run_line(check, Path("/"))
    assert (checked.returncode, checked.stdout.startswith("ok: 1 line, 1 stream, 1 product, 1 model")) == (0, True)
    settings = load(tmp_path / "changeover.toml", {})
    assert settings.device.id == "box-7"
    assert settings.stream[0].loop
    assert settings.device.state_dir == tmp_path / "state"
    assert mode(tmp_path / "changeover.toml") == 0o600
    assert "version = 1" in (tmp_path / "changeover.toml").read_text().splitlines()


def test_a_file_that_is_there_stays(init: Init, tmp_path: Path) -> None:
    (tmp_path / "changeover.toml").write_text("mine")
    answer = init(*options("mqtt://127.0.0.1:1"))
    assert answer.returncode == 2
    assert "is there already" in answer.stderr
    assert "trying" not in answer.stderr, "nothing is asked nor tried for nothing"
    assert (tmp_path / "changeover.toml").read_text() == "mine"
    assert not (tmp_path / "models.toml").exists()


def test_answers_are_asked_for_tried_and_asked_again(init: Init, mosquitto: Mosquitto, tmp_path: Path) -> None:
    answers = [
        "line 1",  # no id
        "",  # line-1
        "bottle-500",  # without a model
        "bottle-500=nowhere.onnx",
        "bottle-500=cap-check.onnx",
        "17=cap:s@2=cap-check.onnx",
        "",
        "missing.png",
        "one.png",
        f"127.0.0.1:{free_port()}",
        "",  # no user
        mosquitto.url,
        "",  # no user
    ]
    answer = init(answers="".join(f"{line}\n" for line in answers))
    assert answer.returncode == 0, answer.stderr
    for words in ('found "line 1"', "expected CODE=FILE", "no file nowhere.onnx", "fail  camera", "fail  broker"):
        assert words in answer.stderr
    settings = load(tmp_path / "changeover.toml", {})
    assert {code: str(model) for code, model in settings.line["line-1"].products.items()} == {
        "bottle-500": "cap-check",
        "17": "cap",
    }
    assert settings.mqtt.url == mosquitto.url


@pytest.mark.parametrize(
    ("answers", "option"),
    [
        ("", "--line"),
        ("\n", "--product"),
        ("\n17=cap-check.onnx\n\n", "--camera"),
        ("\n17=cap-check.onnx\n\none.png\n", "--broker"),
        ("\n17=cap-check.onnx\n\none.png\n\n", "--username"),
        ("\n17=cap-check.onnx\n\none.png\n\nbox\n", "--password-file"),
    ],
)
def test_the_end_of_the_answers_is_told_and_nothing_is_written(
    init: Init, tmp_path: Path, answers: str, option: str
) -> None:
    before = sorted(path.name for path in tmp_path.iterdir())
    answer = init("--no-try", answers=answers)
    assert answer.returncode == 2
    assert f"nothing was written: the input ended at the question for {option}" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_does_not_answer_is_kept_only_on_demand(init: Init, tmp_path: Path) -> None:
    broker = f"mqtt://127.0.0.1:{free_port()}"
    refused = init(*options(broker))
    assert refused.returncode == 1
    assert "nothing was written" in refused.stderr
    assert "--no-try" in refused.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"cap-check.onnx", "one.png"}, "also no picture of the camera"
    given = options(broker)[:-2]
    kept = init(*given, answers=f"{broker}\n\n\n")
    assert kept.returncode == 0, kept.stderr
    (tmp_path / "changeover.toml").unlink()
    assert init(*options(broker, "--no-try")).returncode == 0, "the same model in the catalog is no obstacle"


def test_a_broker_with_passwords_is_reached_and_no_secret_is_in_argv(
    init: Init, make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "box", "hunter 2"], check=True, capture_output=True)
    passwords.chmod(0o644)
    broker = make_mosquitto(more=("allow_anonymous false", f"password_file {passwords}"))
    secret = tmp_path / "secret"
    secret.write_text("hunter 2\n")
    wrong = init(*options(broker.url, "--username", "box"), answers="swordfish\n")
    assert wrong.returncode == 1
    assert "fail  broker" in wrong.stderr
    by_file = init(*options(broker.url, "--username", "box", "--password-file", "secret"))
    assert by_file.returncode == 0, by_file.stderr
    assert load(tmp_path / "changeover.toml", {}).mqtt.password_file == secret
    (tmp_path / "changeover.toml").unlink()
    typed = init(*options(broker.url, "--username", "box"), answers="hunter 2\n")
    assert typed.returncode == 0, typed.stderr
    assert load(tmp_path / "changeover.toml", {}).mqtt.password() == "hunter 2"
    assert mode(tmp_path / "mqtt-password") == 0o600
    assert "hunter" not in typed.stdout + typed.stderr + (tmp_path / "changeover.toml").read_text()


def test_a_camera_s_password_is_asked_for_and_encoded(init: Init, tmp_path: Path) -> None:
    camera = ("--camera", "rtsp://admin@10.0.0.5/s", "--no-try")
    given = [word for word in options("mqtt://127.0.0.1") if word not in {"--camera", "one.png"}]
    answer = init(*given, *camera, answers="a#b/c@d\n")
    assert answer.returncode == 0, answer.stderr
    assert load(tmp_path / "changeover.toml", {}).stream[0].source == "rtsp://admin:a%23b%2Fc%40d@10.0.0.5/s"
    assert "a#b" not in answer.stdout + answer.stderr


def test_a_camera_s_password_in_the_command_line_is_taken_with_a_warning(init: Init, tmp_path: Path) -> None:
    given = [word for word in options("mqtt://127.0.0.1", "--no-try") if word not in {"--camera", "one.png"}]
    answer = init(*given, "--camera", "rtsp://admin:hunter2@10.0.0.5/s")
    assert answer.returncode == 0, answer.stderr
    assert load(tmp_path / "changeover.toml", {}).stream[0].source == "rtsp://admin:hunter2@10.0.0.5/s"
    assert "in this shell's history" in answer.stderr
    assert "--camera-password-file" in answer.stderr
    assert "hunter2" not in answer.stdout + answer.stderr


TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
"""Takes the terminal on stdin for its own, as a shell's would be."""


def test_a_terminal_shows_no_password(init: Init, tmp_path: Path) -> None:
    del init  # for its files
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "agent", "init", "--config", "changeover.toml", "--no-try"]
    words += options("mqtt://127.0.0.1", "--username", "box")
    process = subprocess.Popen(
        [sys.executable, "-c", TERMINAL, *words],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        cwd=tmp_path,
    )
    os.close(theirs)
    said = b""
    try:
        while b"(not shown): " not in said:
            said += os.read(ours, 4096)
        os.write(ours, b"hunter2\n")
        with suppress(OSError):  # Linux says so when the last process has closed its side
            while chunk := os.read(ours, 4096):
                said += chunk
        assert process.wait(60) == 0, said
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert b"hunter2" not in said
    assert load(tmp_path / "changeover.toml", {}).mqtt.password() == "hunter2"


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--product", "0=cap-check.onnx"), "other than"),
        (("--product", "17"), "expected CODE=FILE"),
        (("--product", "17=label-check"), "no model of the catalog"),
        (("--product", "17=one.png=x"), "no file x"),
        (("--product", "bottle-500=cap-check.onnx"), "given twice"),
        (("--password-file", "one.png"), "expected a file with the password"),
        (("--device", "a b"), "expected an id"),
    ],
)
def test_an_option_that_cannot_be_right_is_a_mistake(
    init: Init, tmp_path: Path, more: tuple[str, ...], words: str
) -> None:
    answer = init(*options("mqtt://127.0.0.1", "--no-try", *more))
    assert answer.returncode == 2, answer.stderr
    assert words in answer.stderr
    assert not (tmp_path / "changeover.toml").exists()


def test_a_password_in_the_broker_s_url_is_refused_and_not_shown(init: Init) -> None:
    answer = init(*options("mqtt://box-7:hunter2@127.0.0.1", "--no-try"))
    assert answer.returncode == 2
    assert "credentials go into username and password_file" in answer.stderr
    assert "hunter2" not in answer.stderr + answer.stdout


def test_a_text_named_onnx_is_told_at_once(init: Init, tmp_path: Path) -> None:
    (tmp_path / "cap-check.onnx").write_text("this is a text\n")
    answer = init(*options("mqtt://127.0.0.1", "--no-try"))
    assert answer.returncode == 2
    assert "is a text, not a model" in answer.stderr


def test_two_files_of_one_name_are_told_apart_by_the_user(init: Init, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_tiny_model(tmp_path / "other" / "cap-check.onnx")
    answer = init(*options("mqtt://127.0.0.1", "--no-try", "--product", "17=other/cap-check.onnx"))
    assert answer.returncode == 2
    assert "17=NAME=" in answer.stderr
    answer = init(*options("mqtt://127.0.0.1", "--no-try", "--product", "17=label=other/cap-check.onnx"))
    assert answer.returncode == 0, answer.stderr


def service_place(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(module, "USER", "nogroup")
    return Place(
        folder / "etc" / "changeover.toml", is_service=True, home=folder / "etc", credentials=folder / "etc" / "c"
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for the service")
def test_root_writes_for_the_service_what_that_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = service_place(tmp_path, monkeypatch)
    place.prepare()
    draft = place.draft("version = 1\n")
    place.keep(draft)
    secret = place.keep_password("hunter2")
    assert secret is not None
    assert (mode(place.home), place.home.group()) == (0o750, "nogroup")
    assert (mode(place.file), place.file.group(), place.file.owner()) == (0o640, "nogroup", "root")
    assert (mode(secret), secret.owner(), secret.group()) == (0o600, "root", "root")
    assert mode(place.credentials) == 0o700
    assert place.password_file(None, "hunter2") == "credential:mqtt-password"
    assert place.own == {}
    with pytest.raises(MistakeError, match="is there already"):
        place.keep(draft)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root writes for the service")
def test_an_empty_secret_stands_for_none_and_another_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = service_place(tmp_path, monkeypatch)
    place.prepare()
    (place.credentials / "mqtt-password").touch(0o600)
    secret = place.keep_password("hunter2")
    assert secret is not None
    assert secret.read_text() == "hunter2\n"
    assert place.keep_password("hunter2") is None
    with pytest.raises(MistakeError, match="holds another password"):
        place.keep_password("swordfish")
    assert secret.read_text() == "hunter2\n"
    place.forget_password(secret)
    assert secret.read_bytes() == b"", "systemd asks for the file"


def test_a_configuration_that_fails_the_check_leaves_no_secret(init: Init, tmp_path: Path) -> None:
    given = [word for word in options("mqtt://127.0.0.1", "--no-try", "--username", "box") if word != "one.png"]
    given.insert(given.index("--camera") + 1, "missing.png")
    answer = init(*given, answers="hunter2\n")
    assert answer.returncode == 2
    assert "no file" in answer.stderr
    assert "The configuration was not written" in answer.stderr
    assert not list(tmp_path.glob("*password*")) + list(tmp_path.glob("*changeover.toml*"))


def test_the_place_is_the_service_s_for_root_and_the_working_folder_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert place_of(None, {}) == Place(tmp_path / "changeover.toml", is_service=False)
    assert place_of(None, {"CHANGEOVER_CONFIG": "/etc/changeover/x.toml"}).is_service is False
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert place_of(None, {}) == Place(Path("/etc/changeover/changeover.toml"), is_service=True)
    assert place_of(Path("a.toml"), {}) == Place(tmp_path / "a.toml", is_service=False)


def test_a_password_is_encoded_whatever_is_in_it() -> None:
    url = with_password("rtsp://admin@10.0.0.5:554/s?a=1", "p@:/?#[] é")
    assert url == "rtsp://admin:p%40%3A%2F%3F%23%5B%5D%20%C3%A9@10.0.0.5:554/s?a=1"
    assert read_camera(url) == url
