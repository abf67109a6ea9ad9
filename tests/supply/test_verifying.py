"""Files that a verifier is given, and the fate of one that it refuses."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from msgspec.structs import replace
from support.fetches import Fetches, content_of, entry
from support.file_server import FileServer, Served
from support.plant_index import PlantIndex

import agent.files
from agent.files import ByteSink
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.supply.errors import SourceError
from agent.trust.authoring.signing import sign_file
from agent.trust.index.contents import IndexedModel
from agent.trust.index_state import read_index_state
from agent.trust.minisign import SecretKey
from agent.trust.stick.stick_files import read_inside
from agent.trust.verifier import Verifier

CONTENT = content_of(50_000)


@dataclass
class Wary:
    """A verifier that trusts one signature, and the models of one index."""

    signature: bytes = b"signed by plant 7"
    seen: list[str] = field(default_factory=list)
    revoked: tuple[str, ...] = ()
    index: list[dict[str, Any]] = field(default_factory=list)
    is_hashing: bool = False

    def accept_index(self, read: Callable[[str, int], bytes | None]) -> Sequence["Listed"]:
        assert read("1.root.json", 1000) is None
        found = read("timestamp.json", 1000)
        assert found is not None
        return [Listed(json.loads(found))]

    def require_listed(self, version: ModelVersion) -> None:
        if version.reference in self.revoked:
            raise ModelError("revoked", f"{version.reference} was revoked")

    def verify_file(self, version: ModelVersion, path: Path) -> None:
        self.seen.append(path.name)
        assert version.path == str(path)
        signature = path.with_name(f"{path.name}.minisig")
        if not signature.exists() or signature.read_bytes() != self.signature:
            raise ModelError("unsigned", f"{version.reference} has no good signature")


@dataclass
class Listed:
    raw: dict[str, Any]

    def entry_at(self, place: str) -> bytes:
        return json.dumps(self.raw | {"file": f"{place}/{self.raw['file']}"}).encode()


@pytest.fixture
def wary() -> Wary:
    return Wary()


@pytest.fixture
def fetches(tmp_path: Path, wary: Wary) -> Fetches:
    return Fetches(tmp_path, verifier=wary, trusted_keys=("key",))


def test_a_signed_model_enters_with_its_signature(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(wary.signature)
    [found] = fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert Path(found["file"] + ".minisig").read_bytes() == wary.signature
    assert wary.seen == ["model.onnx"]
    fetches.require_only(CONTENT)


@pytest.mark.parametrize("signature", [None, b"signed by another plant"])
def test_an_unsigned_model_never_enters_the_store(
    server: FileServer, fetches: Fetches, signature: bytes | None
) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    if signature is not None:
        server.files["/cap.onnx.minisig"] = Served(signature)
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "unsigned"
    fetches.require_only()


def test_a_server_that_fails_at_the_signature_costs_no_byte_twice(
    server: FileServer, fetches: Fetches, wary: Wary
) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(status=503)
    with pytest.raises(SourceError):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    server.files["/cap.onnx.minisig"] = Served(wary.signature)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)
    assert server.sent_bytes == len(CONTENT) + len(wary.signature)


def test_a_signature_may_lie_elsewhere(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/signatures/cap"] = Served(wary.signature)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT, signature=server.url("/signatures/cap")))
    fetches.require_only(CONTENT)


def test_what_is_in_the_store_is_verified_again(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(wary.signature)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    wary.signature = b"another key"
    with pytest.raises(ModelError):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))


def test_a_model_that_was_signed_anew_takes_its_new_signature(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(wary.signature)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    before, wary.signature = wary.signature, b"another key"
    server.files["/cap.onnx.minisig"] = Served(b"of nobody")
    with pytest.raises(ModelError):
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    [kept] = fetches.store_dir.rglob("*.minisig")
    assert kept.read_bytes() == before
    server.files["/cap.onnx.minisig"] = Served(wary.signature)
    [found] = fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert Path(found["file"] + ".minisig").read_bytes() == wary.signature
    fetches.require_only(CONTENT)


def test_a_release_that_an_administrator_added_is_taken(
    server: FileServer, fetches: Fetches, wary: Wary, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(wary.signature)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))

    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr("agent.supply.fetching.os.utime", refuse)
    assert fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))


def test_a_revoked_model_is_not_even_asked_for(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    wary.revoked = ("cap:n@1",)
    with pytest.raises(ModelError) as refused:
        fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "revoked"
    assert server.requests == []


def test_an_index_says_what_is_wanted(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    listed = entry("models/cap.onnx", CONTENT)
    server.files["/index/timestamp.json"] = Served(json.dumps(listed).encode())
    server.files["/index/models/cap.onnx"] = Served(CONTENT)
    server.files["/index/models/cap.onnx.minisig"] = Served(wary.signature)
    fetches.fetch(index=server.url("/index"))
    fetches.require_only(CONTENT)


def test_an_index_in_a_bucket_that_may_not_be_listed_is_taken(server: FileServer, fetches: Fetches, wary: Wary) -> None:
    server.files["/index/1.root.json"] = Served(status=403)
    server.files["/index/timestamp.json"] = Served(json.dumps(entry("cap.onnx", CONTENT)).encode())
    server.files["/index/cap.onnx"] = Served(CONTENT)
    server.files["/index/cap.onnx.minisig"] = Served(wary.signature)
    fetches.fetch(index=server.url("/index"))
    fetches.require_only(CONTENT)


def test_an_index_that_is_too_long_is_refused(server: FileServer, fetches: Fetches) -> None:
    server.files["/index/timestamp.json"] = Served(b"x" * 2000)
    with pytest.raises(ModelError, match="longer than"):
        fetches.fetch(index=server.url("/index"))


def test_a_devices_own_key_decides(server: FileServer, tmp_path: Path) -> None:
    key = SecretKey.make()
    source = tmp_path / "cap.onnx"
    source.write_bytes(CONTENT)
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(sign_file(source, key).read_bytes())
    Fetches(tmp_path / "one", trusted_keys=(key.public.line,)).fetch(entry(server.url("/cap.onnx"), CONTENT))
    other = Fetches(tmp_path / "other", trusted_keys=(SecretKey.make().public.line,))
    with pytest.raises(ModelError) as refused:
        other.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert refused.value.reason == "unsigned"
    other.require_only()


def test_what_the_store_holds_is_read_once(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = SecretKey.make()
    source = tmp_path / "cap.onnx"
    source.write_bytes(CONTENT)
    server.files["/cap.onnx"] = Served(CONTENT)
    server.files["/cap.onnx.minisig"] = Served(sign_file(source, key).read_bytes())
    fetches = Fetches(tmp_path / "box", trusted_keys=(key.public.line,))
    [found] = fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    hashed: list[int] = []
    real = agent.files.stream_sha256

    def stream_sha256(stream: BinaryIO, copy: ByteSink | None = None) -> str:
        hashed.append(os.fstat(stream.fileno()).st_ino)
        return real(stream, copy)

    for module in ("agent.files", "agent.trust.verifier"):
        monkeypatch.setattr(f"{module}.stream_sha256", stream_sha256)
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    assert hashed == [Path(found["file"]).stat().st_ino]
    Path(found["file"]).write_bytes(b"damaged")
    fetches.fetch(entry(server.url("/cap.onnx"), CONTENT))
    fetches.require_only(CONTENT)


def test_a_plants_index_is_fetched_with_its_models_and_its_revocations(server: FileServer, tmp_path: Path) -> None:
    plant = PlantIndex(tmp_path / "plant").add("cap:n@1", publish=False).add("hat:n@1")
    serve(server, plant.path)
    fetches = Fetches(tmp_path / "box", root=str(plant.root))
    found = fetches.fetch(index=server.url("/index"))
    assert [one["name"] for one in found] == ["cap", "hat"]
    plant.revoke("cap@1")
    serve(server, plant.path)
    assert [one["name"] for one in fetches.fetch(index=server.url("/index"))] == ["hat"]
    state = read_index_state(Path(fetches.setup.state_dir))
    assert state is not None
    assert state.revoked_models == ("cap@1",)


def test_the_configured_index_is_read_alone_where_nothing_is_wanted(server: FileServer, tmp_path: Path) -> None:
    plant = PlantIndex(tmp_path / "plant").add("cap:n@1").revoke("cap@1")
    serve(server, plant.path)
    fetches = Fetches(tmp_path / "box", root=str(plant.root), index=server.url("/index"))
    assert fetches.fetch() == []
    state = read_index_state(Path(fetches.setup.state_dir))
    assert state is not None
    assert state.revoked_models == ("cap@1",)
    fetches.require_only()


def test_the_configured_index_decides_of_what_the_catalog_names(server: FileServer, tmp_path: Path) -> None:
    plant = PlantIndex(tmp_path / "plant").add("cap:n@1", publish=False).add("hat:n@1")
    serve(server, plant.path)
    fetches = Fetches(tmp_path / "box", root=str(plant.root))
    fetches.setup = replace(fetches.setup, index=server.url("/index"))
    server.files["/index/timestamp.json"] = Served(status=503)
    cap, hat = (model.entry_at(server.url("/index")) for model in _models_of(plant, tmp_path))
    with pytest.raises(SourceError):
        fetches.fetch(json.loads(cap))
    serve(server, plant.path)
    assert fetches.fetch(json.loads(cap))
    plant.revoke("hat@1")
    serve(server, plant.path)
    with pytest.raises(ModelError) as refused:
        fetches.fetch(json.loads(hat))
    assert refused.value.reason == "revoked"
    server.files["/index/timestamp.json"] = Served(status=503)
    assert fetches.fetch(json.loads(cap))  # by the kept index


def _models_of(plant: PlantIndex, folder: Path) -> tuple[IndexedModel, ...]:
    verifier = Verifier((), str(plant.root), str(folder / "reader"))
    return verifier.accept_index(lambda name, most_bytes: read_inside(plant.path, name, most_bytes))


def serve(server: FileServer, folder: Path) -> None:
    """Serve a folder as it is now."""
    for path in folder.rglob("*"):
        if path.is_file():
            server.files[f"/index/{path.relative_to(folder)}"] = Served(path.read_bytes())
