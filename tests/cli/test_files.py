"""Files as other systems save them: byte order marks, and private keys with a passphrase."""

import codecs
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from support.certificates import Authority
from support.tiny_models import write_tiny_model
from support.waiting import DEADLINE_S

from agent.models.catalog import Catalog
from agent.settings import load

Command = Callable[..., CompletedProcess[str]]


def test_files_with_a_byte_order_mark_are_read(changeover: Command, config: Path) -> None:
    password = config.with_name("password")
    password.write_bytes(codecs.BOM_UTF8 + b"secret\r\n")
    config.write_text(config.read_text() + "[mqtt]\nusername = 'u'\npassword_file = 'password'\n")
    catalog = config.with_name("models.toml")
    for file in (config, catalog):
        file.write_bytes(codecs.BOM_UTF8 + file.read_bytes())
    answer = changeover("check", "--config", str(config))
    assert (answer.returncode, answer.stderr) == (0, "")
    assert load(config, {}).mqtt.password() == "secret"
    new = config.with_name("new.onnx")
    write_tiny_model(new)
    added = changeover("models", "add", "cap-check:n@4", str(new), "--config", str(config))
    assert added.returncode == 0, added.stderr
    assert {version.reference for version in Catalog.load(catalog).versions} == {"cap-check:n@3", "cap-check:n@4"}


@pytest.mark.parametrize("words", [["check"], ["doctor"], ["switch", "line-1", "17"], ["watch"], ["run"]])
def test_a_key_with_a_passphrase_is_a_mistake_and_never_a_question(
    config: Path, tmp_path: Path, words: list[str]
) -> None:
    key, certificate = Authority(tmp_path / "authority").issue("box-7")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-aes256", "-passout", "pass:hunter2", "-out", locked],
        check=True,
        capture_output=True,
    )
    config.write_text(
        config.read_text()
        + f"[mqtt]\nurl = 'mqtts://127.0.0.1:1'\ncert_file = '{certificate}'\nkey_file = '{locked}'\n"
    )
    code, said = _at_a_terminal([sys.executable, "-m", "agent", *words, "--config", str(config)])
    assert "mqtt.key_file" in said
    assert "passphrase" in said
    assert "PEM pass phrase" not in said, "nobody is asked"
    assert code == (1 if words == ["doctor"] else 2), said


def _at_a_terminal(command: list[str]) -> tuple[int, str]:
    """Run `command` with a terminal of its own, on which nobody types; return its exit code and what it said."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    said = bytearray()
    try:
        while chunk := _read(ours):
            said += chunk
        code = process.wait(DEADLINE_S)
    finally:
        process.kill()
        os.close(ours)
    return code, " ".join(said.decode(errors="replace").split())


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the last process has closed its side
        return b""
