"""`changeover models fetch` and `gc`, with a real supply process."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fetches import content_of, entry
from support.file_server import FileServer, Served, file_server

from agent.trust.authoring.signing import sign_file
from agent.trust.minisign import SecretKey

CONTENT = content_of(100_000)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


def configured(folder: Path, url: str, content: bytes = CONTENT) -> Path:
    """Write a configuration whose catalog has one model, at `url`; return its path."""
    model = entry(url, content)
    rows = "\n".join(f'{key} = "{value}"' for key, value in model.items())
    (folder / "models.toml").write_text(f"[[model]]\n{rows}\n")
    config = folder / "changeover.toml"
    config.write_text(
        f'version = 1\n[device]\nid = "box"\nstate_dir = "{folder}/state"\n[mqtt]\nurl = "embedded"\n'
        f'[catalog]\nfile = "models.toml"\nstore_dir = "{folder}/store"\nmin_free = 0\n'
    )
    return config


def changeover(*words: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "agent", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_a_model_is_fetched_and_what_nothing_names_goes(server: FileServer, tmp_path: Path) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    config = configured(tmp_path, server.url("/cap.onnx"))
    fetched = changeover("models", "fetch", "--config", config)
    assert (fetched.returncode, fetched.stdout.split()[:2]) == (0, ["fetched", "cap:n@1"]), fetched.stderr
    [file] = tmp_path.glob("store/sha256/*/model.onnx")
    assert file.read_bytes() == CONTENT
    again = changeover("models", "fetch", "cap", "--config", config)
    assert (again.returncode, again.stdout[:16]) == (0, "nothing to fetch")
    (tmp_path / "models.toml").write_text("")
    past_s = time.time() - 86400
    for path in (file, file.parent):
        os.utime(path, (past_s, past_s))
    tried = changeover("models", "gc", "--dry-run", "--config", config)
    assert "would go\t0.1 MB" in tried.stdout
    assert file.exists()
    assert "freed 0.1 MB" in changeover("models", "gc", "--config", config).stdout
    assert not file.parent.exists()


def test_a_signature_that_is_asked_for_later_is_fetched_for_what_is_there(server: FileServer, tmp_path: Path) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    config = configured(tmp_path, server.url("/cap.onnx"))
    assert changeover("models", "fetch", "--config", config).returncode == 0
    key, source = SecretKey.make(), tmp_path / "cap.onnx"
    source.write_bytes(CONTENT)
    with config.open("a") as file:
        file.write(f'trusted_keys = ["{key.public.line}"]\n')
    unsigned = changeover("models", "fetch", "--config", config)
    assert (unsigned.returncode, unsigned.stdout.split(":")[:2]) == (2, ["unsigned", " cap"])
    server.files["/cap.onnx.minisig"] = Served(sign_file(source, key).read_bytes())
    signed = changeover("models", "fetch", "--config", config)
    assert (signed.returncode, signed.stdout.split()[:2]) == (0, ["fetched", "cap:n@1"]), signed.stderr
    assert [path.name for path in tmp_path.glob("store/sha256/*/*.minisig")] == ["model.onnx.minisig"]
    assert server.sent_bytes < 2 * len(CONTENT), "the model itself does not come again"
    assert changeover("models", "fetch", "--config", config).stdout[:16] == "nothing to fetch"


def test_what_cannot_be_fetched_has_an_exit_code(server: FileServer, tmp_path: Path) -> None:
    config = configured(tmp_path, server.url("/cap.onnx"))
    gone = changeover("models", "fetch", "--config", config)
    assert (gone.returncode, gone.stdout.split(":")[0]) == (2, "not_found")
    server.files["/cap.onnx"] = Served(CONTENT, status=503)
    busy = changeover("models", "fetch", "--timeout", 1, "--config", config)
    assert (busy.returncode, busy.stdout.split(":")[0]) in {(1, "timeout"), (1, "source_refused")}
    assert changeover("models", "fetch", "other", "--config", config).returncode == 2
