"""Signatures and keys that Debian's minisign and we exchange."""

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.trust.authoring.signing import sign_file
from agent.trust.minisign import PublicKey, SecretKey, Signature

CONTENT = b"weights" * 1000
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="needs Debian's package minisign")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "cap.onnx"
    file.write_bytes(CONTENT)
    return file


def digest() -> bytes:
    return hashlib.blake2b(CONTENT).digest()


@needs_minisign
def test_minisign_takes_our_signature(key: SecretKey, model: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(key.public.as_file())
    sign_file(model, key)
    done = subprocess.run(
        ["minisign", "-Vm", model, "-p", tmp_path / "key.pub"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "file:cap.onnx" in done.stdout


@needs_minisign
@pytest.mark.parametrize("options", [(), ("-l",)], ids=["prehashed", "legacy"])
def test_we_take_minisigns_signature(options: tuple[str, ...], key: SecretKey, model: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key.as_file(None))
    subprocess.run(
        ["minisign", "-Sm", model, "-W", "-s", tmp_path / "key", *options], check=True, capture_output=True, input=b""
    )
    signature = Signature.parse(model.with_name("cap.onnx.minisig").read_bytes())
    assert signature.is_prehashed == (not options)
    signature.require((key.public,), CONTENT if options else digest())


@needs_minisign
def test_minisign_takes_our_encrypted_key(key: SecretKey, model: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(key.as_file("pass"))
    command: list[str | Path] = ["minisign", "-Sm", model, "-s", tmp_path / "key"]
    subprocess.run(command, check=True, capture_output=True, input=b"pass\n")
    Signature.parse(model.with_name("cap.onnx.minisig").read_bytes()).require((key.public,), digest())


@needs_minisign
def test_we_take_minisigns_encrypted_key(tmp_path: Path) -> None:
    command: list[str | Path] = ["minisign", "-G", "-p", tmp_path / "key.pub", "-s", tmp_path / "key"]
    subprocess.run(command, check=True, capture_output=True, input=b"pass\npass\n")
    made = SecretKey.parse((tmp_path / "key").read_text(), "pass")
    assert made.public == PublicKey.parse((tmp_path / "key.pub").read_text())
