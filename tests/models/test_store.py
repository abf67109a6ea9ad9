"""Files and their entries: added, verified, removed, with the user's own words left alone."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.messages.errors import MistakeError, ModelError
from agent.messages.references import ModelReference
from agent.models.catalog import Catalog
from agent.models.store import Store, file_sha256, mismatch, verify

Writer = Callable[..., Catalog]


def reference(text: str) -> ModelReference:
    parsed = ModelReference.parse(text)
    assert parsed is not None
    return parsed


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "download" / "best.onnx"
    file.parent.mkdir()
    file.write_bytes(bytes(range(256)) * 8192)
    return file


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "models.toml", tmp_path / "store")


def test_added_is_found_and_verified(store: Store, source: Path, tmp_path: Path) -> None:
    version = store.add(reference("cap:n@3"), source)
    assert Path(version.path).parent == tmp_path / "store"
    assert Path(version.path).read_bytes() == source.read_bytes()
    assert version.sha256 == hashlib.sha256(source.read_bytes()).hexdigest() == file_sha256(source)
    assert Catalog.load(tmp_path / "models.toml").find(ModelReference("cap"), "n") == version
    verify(version)


def test_an_openvino_model_brings_its_weights(store: Store, tmp_path: Path) -> None:
    (tmp_path / "m.xml").write_text("<net/>")
    with pytest.raises(MistakeError, match=r"\.bin beside it"):
        store.add(reference("cap:n@3"), tmp_path / "m.xml")
    (tmp_path / "m.bin").write_bytes(b"weights")
    version = store.add(reference("cap:n@3"), tmp_path / "m.xml")
    assert Path(version.path).with_suffix(".bin").read_bytes() == b"weights"
    verify(version)
    Path(version.path).with_suffix(".bin").write_bytes(b"damaged")
    with pytest.raises(ModelError) as caught:
        verify(version)
    assert caught.value.reason == "hash_mismatch"
    store.remove(reference("cap:n@3"))
    assert not any((tmp_path / "store").iterdir())


def test_a_users_comments_stay(store: Store, source: Path, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    own = '# our models\n[[model]] # the old one\nname = "old"\nvariant = "n"\nversion = "1"\nfile = "old.onnx"\n'
    own += f'sha256 = "{"0" * 64}"\n'
    file.write_text(own)
    store.add(reference("cap:n@3"), source)
    assert file.read_text().startswith(own)
    assert [version.reference for version in Catalog.load(file).versions] == ["old:n@1", "cap:n@3"]
    store.remove(reference("cap:n@3"))
    assert "# our models" in file.read_text()
    assert "# the old one" in file.read_text()
    assert [version.reference for version in Catalog.load(file).versions] == ["old:n@1"]


def test_a_removed_version_takes_only_the_stores_file(store: Store, source: Path, written: Writer) -> None:
    mine = Path(written(("own", "n", "1")).versions[0].path)
    copied = Path(store.add(reference("cap:n@3"), source).path)
    store.remove(reference("cap:n@3"))
    store.remove(reference("own:n@1"))
    assert not copied.exists()
    assert mine.exists()
    assert source.exists()


def test_releases_are_immutable(store: Store, source: Path) -> None:
    store.add(reference("cap:n@3"), source)
    with pytest.raises(MistakeError, match="immutable"):
        store.add(reference("cap:n@3"), source)


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ("cap:n", "best.onnx", "full reference"),
        ("cap@3", "best.onnx", "full reference"),
        ("cap:big@3", "best.onnx", "--rank"),
        ("cap:n@3", "none.onnx", "no such file"),
        ("cap:n@3", "best.zip", r"ends in \.onnx"),
    ],
)
def test_what_cannot_be_added_is_said(store: Store, source: Path, text: str, name: str, words: str) -> None:
    with pytest.raises(MistakeError, match=words):
        store.add(reference(text), source.with_name(name))
    assert [path.name for path in source.parent.parent.iterdir()] == ["download"]


def test_a_variant_of_its_own_is_added_with_its_rank(store: Store, source: Path) -> None:
    assert store.add(reference("cap:big@3"), source, rank=9).rank == 9


def test_what_is_not_in_the_catalog_cannot_be_removed(store: Store) -> None:
    with pytest.raises(MistakeError, match="models list"):
        store.remove(reference("cap:n@3"))


def test_a_missing_or_changed_file_is_seen(written: Writer) -> None:
    missing, changed, good = written(("a", "n", "1"), ("b", "n", "1"), ("c", "n", "1")).versions
    Path(missing.path).unlink()
    Path(changed.path).write_bytes(b"other")
    assert mismatch(good) is None
    for version, reason in ((missing, "file_missing"), (changed, "hash_mismatch")):
        with pytest.raises(ModelError) as caught:
            verify(version)
        assert caught.value.reason == reason
