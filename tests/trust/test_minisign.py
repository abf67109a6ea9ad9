"""Signatures as minisign makes and takes them, and none that were altered."""

import hashlib
from pathlib import Path

import pytest

from agent.trust.authoring.signing import sign_file
from agent.trust.minisign import BadKeyError, BadSignatureError, PublicKey, SecretKey, Signature, is_encrypted

CONTENT = b"weights" * 1000


@pytest.fixture
def model(tmp_path: Path) -> Path:
    file = tmp_path / "cap.onnx"
    file.write_bytes(CONTENT)
    return file


def digest(content: bytes = CONTENT) -> bytes:
    return hashlib.blake2b(content).digest()


def test_a_signature_holds_for_its_file_alone(key: SecretKey, model: Path) -> None:
    signature = Signature.parse(sign_file(model, key).read_bytes())
    assert signature.require((key.public,), digest()) == key.public
    with pytest.raises(BadSignatureError, match="altered"):
        signature.require((key.public,), digest(CONTENT + b"x"))
    with pytest.raises(BadSignatureError, match="not trusted here"):
        signature.require((SecretKey.make().public,), digest())


def test_another_key_under_the_same_id_is_another_key(key: SecretKey, model: Path) -> None:
    signature = Signature.parse(sign_file(model, key).read_bytes())
    other = PublicKey(key.key_id, SecretKey.make().public.raw)
    with pytest.raises(BadSignatureError):
        signature.require((other,), digest())
    assert signature.require((other, key.public), digest()) == key.public


def test_a_bare_key_fits_every_id(key: SecretKey, model: Path) -> None:
    signature = Signature.parse(sign_file(model, key).read_bytes())
    for text in (key.public.raw.hex(), key.public.raw.hex().upper()):
        assert signature.require((PublicKey.parse(text),), digest()).raw == key.public.raw


def test_the_trusted_comment_is_signed_too(key: SecretKey, model: Path) -> None:
    content = sign_file(model, key).read_bytes().replace(b"file:cap", b"file:hat")
    with pytest.raises(BadSignatureError, match="comment was altered"):
        Signature.parse(content).require((key.public,), digest())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 300,
        b"untrusted comment: x\n" * 4,
        b"untrusted comment: x\n" + b"A" * 5000,
        b"untrusted comment: x\nRWQ=\ntrusted comment: y\nAAAA\n",
    ],
    ids=["empty", "binary", "comments", "long", "short"],
)
def test_what_is_no_signature_is_refused(content: bytes) -> None:
    with pytest.raises(BadSignatureError):
        Signature.parse(content)


def test_a_second_spelling_of_base64_is_refused(key: SecretKey, model: Path) -> None:
    lines = sign_file(model, key).read_text().split("\n")
    assert lines[3].endswith("==")
    last = lines[3][-3]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    lines[3] = f"{lines[3][:-3]}{alphabet[alphabet.index(last) + 1]}=="
    with pytest.raises(BadSignatureError, match="malformed"):
        Signature.parse("\n".join(lines).encode())


def test_an_encrypted_key_needs_its_password(key: SecretKey) -> None:
    text = key.as_file("caps and hats")
    assert is_encrypted(text)
    assert not is_encrypted(key.as_file(None))
    assert SecretKey.parse(text, "caps and hats") == key
    for password in ("other", None):
        with pytest.raises(BadKeyError, match="password"):
            SecretKey.parse(text, password)


def test_a_damaged_key_is_refused(key: SecretKey) -> None:
    text = key.as_file(None)
    for place in range(text.index("\n") + 80, len(text) - 3, 5):
        damaged = f"{text[:place]}{'A' if text[place] != 'A' else 'B'}{text[place + 1 :]}"
        with pytest.raises(BadKeyError):
            SecretKey.parse(damaged, "x")
