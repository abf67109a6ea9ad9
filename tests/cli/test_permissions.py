"""A user without rights gets one line and the right exit code from every command, whatever is closed to them."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.tiny_models import write_tiny_model

Answer = subprocess.CompletedProcess[str]
Plain = Callable[..., Answer]

COMMANDS = {
    "check": ["check"],
    "run": ["run"],
    "watch": ["watch"],
    "switch": ["switch", "line-1", "17"],
    "doctor": ["doctor"],
    "forget": ["forget"],
    "list": ["models", "list"],
    "add": ["models", "add", "cap-check:s@1", "{new}"],
    "verify": ["models", "verify"],
    "prepare": ["models", "prepare", "cap-check"],
    "remove": ["models", "remove", "cap-check:n@3"],
}
OF_CATALOG = ("check", "run", "list", "add", "verify", "prepare", "remove")
OF_BROKER = ("check", "watch", "switch", "forget")
each_command = pytest.mark.parametrize("command", COMMANDS)


@pytest.fixture
def plain(tmp_path: Path, config: Path) -> Plain:
    """Run a command as a user without rights: where the tests run as root, without root's capabilities."""
    config.write_text(
        f"""[device]
id = "box"
state_dir = "{tmp_path}/state"
[mqtt]
url = "mqtt://127.0.0.1:1"
username = "u"
password_file = "password"
"""
        + config.read_text()
    )
    (tmp_path / "password").write_text("secret\n")
    for name in ("state", "store"):
        (tmp_path / name).mkdir()
    write_tiny_model(tmp_path / "new.onnx")
    if os.geteuid() != 0:
        without: list[str] = []
    elif (setpriv := shutil.which("setpriv")) is not None:
        without = [setpriv, "--bounding-set=-all", "--inh-caps=-all", "--"]
    else:
        pytest.skip("needs setpriv, which every Debian has, to give up root's capabilities")
    there = {name: value for name, value in os.environ.items() if not name.startswith("CHANGEOVER_")}

    def call(command: str, *more: str) -> Answer:
        words = [word.format(new=tmp_path / "new.onnx") for word in COMMANDS[command]]
        line = [*without, sys.executable, "-m", "agent", *words, "--config", str(config), *more]
        return subprocess.run(
            line, capture_output=True, text=True, check=False, env=there, timeout=120, stdin=subprocess.DEVNULL
        )

    return call


def closed(path: Path) -> Callable[[], None]:
    """Take all rights from `path`; return what gives them back."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(0)
    return lambda: path.chmod(mode)


def is_one_line(answer: Answer, path: Path) -> bool:
    said = (answer.stdout + answer.stderr).splitlines()
    return len(said) == 1 and str(path) in said[0] and "no permission" in said[0] and "sudo" in said[0]


@each_command
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_closed_configuration_is_one_line_and_2(
    plain: Plain, config: Path, tmp_path: Path, command: str, what: str
) -> None:
    reopen = closed(config if what == "file" else tmp_path)
    try:
        answer = plain(command)
    finally:
        reopen()
    assert answer.returncode == 2, answer.stderr
    assert is_one_line(answer, config), answer.stdout + answer.stderr


@pytest.mark.parametrize("command", OF_CATALOG)
def test_a_closed_catalog_is_one_line_and_2(plain: Plain, config: Path, command: str) -> None:
    catalog = config.with_name("models.toml")
    closed(catalog)
    answer = plain(command)
    assert answer.returncode == 2, answer.stderr
    assert is_one_line(answer, catalog), answer.stdout + answer.stderr


@pytest.mark.parametrize("command", OF_BROKER)
def test_a_closed_password_is_one_line_and_2(plain: Plain, config: Path, command: str) -> None:
    closed(config.with_name("password"))
    answer = plain(command)
    said = answer.stdout + answer.stderr
    assert (answer.returncode, len(said.splitlines())) == (2, 1), said
    assert "mqtt.password_file" in said
    assert "permission" in said


@pytest.mark.parametrize("command", OF_BROKER)
@pytest.mark.parametrize("key", ["ca_file", "key_file"])
def test_a_closed_file_of_tls_is_one_line_and_2(plain: Plain, config: Path, command: str, key: str) -> None:
    files = {name: config.with_name(f"{name}.pem") for name in ("ca_file", "cert_file", "key_file")}
    for file in files.values():
        file.write_text("no certificate\n")
    lines = "".join(f'{name} = "{file}"\n' for name, file in files.items())
    text = config.read_text().replace("mqtt://", "mqtts://").replace("[mqtt]\n", f"[mqtt]\n{lines}")
    config.write_text(text)
    closed(files[key])
    answer = plain(command)
    said = answer.stdout + answer.stderr
    assert (answer.returncode, len(said.splitlines())) == (2, 1), said
    assert key in said
    assert "permission" in said


@pytest.mark.parametrize("command", [one for one in COMMANDS if one != "run"])  # which serves on
@pytest.mark.parametrize("what", ["cap.onnx", "new.onnx", "state", "store", "password"])
def test_nothing_that_is_closed_makes_a_traceback(
    plain: Plain, config: Path, tmp_path: Path, command: str, what: str
) -> None:
    assert config.exists()
    reopen = closed(tmp_path / what)
    try:
        answer = plain(command)
    finally:
        reopen()
    assert "Traceback" not in answer.stdout + answer.stderr, answer.stderr
    assert answer.returncode in {0, 1, 2}


def test_a_closed_model_is_named_by_what_reads_it(plain: Plain, tmp_path: Path) -> None:
    reopen = closed(tmp_path / "cap.onnx")
    try:
        for command in ("check", "verify", "prepare"):
            answer = plain(command)
            assert answer.returncode == 2, (command, answer.stdout, answer.stderr)
            assert "cap.onnx" in answer.stdout + answer.stderr
    finally:
        reopen()


def test_a_closed_store_is_told_by_add(plain: Plain, tmp_path: Path) -> None:
    reopen = closed(tmp_path / "store")
    try:
        answer = plain("add")
    finally:
        reopen()
    assert answer.returncode == 2
    assert len(answer.stderr.splitlines()) == 1
    assert str(tmp_path / "store") in answer.stderr


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_what_root_adds_is_the_service_s_to_read_whatever_the_umask(config: Path, tmp_path: Path, umask: int) -> None:
    write_tiny_model(tmp_path / "new.onnx")
    command = [sys.executable, "-m", "agent", "models", "add", "cap-check:s@1", str(tmp_path / "new.onnx")]
    before = os.umask(umask)
    try:
        subprocess.run([*command, "--config", str(config)], check=True, capture_output=True, timeout=120)
    finally:
        os.umask(before)
    for path in (tmp_path / "store").rglob("*"):
        wanted = 0o755 if path.is_dir() else 0o644
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    assert stat.S_IMODE((tmp_path / "store").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "models.toml").stat().st_mode) & 0o044 == 0o044


def test_help_says_who_may(changeover: Callable[..., Answer]) -> None:
    for words in (["check"], ["models", "add"], ["switch"], ["forget"]):
        assert "needs sudo" in " ".join(changeover(*words, "--help").stdout.split())
