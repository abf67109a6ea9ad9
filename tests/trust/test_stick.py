"""Models come on a stick, verified offline; nothing else of it is taken, and a cut import goes on."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.plant_index import PlantIndex, TrustingDevice, reference_of
from support.tiny_models import write_tiny_model

from agent.messages.errors import ChangeoverError, MistakeError, ModelError
from agent.models.catalog import Catalog
from agent.models.keeping.copying import Release
from agent.models.keeping.room import NoRoomError
from agent.models.store import Store
from agent.trust.authoring.signing import sign_model
from agent.trust.minisign import SecretKey
from agent.trust.stick.bundle import bundle
from agent.trust.stick.importing import Imported, Target, import_models
from agent.trust.verifier import Verifier


class Box:
    """A device with a catalog and a store."""

    def __init__(self, folder: Path, verifier: Verifier | None = None) -> None:
        self.target = Target(folder / "models.toml", folder / "store", folder, 1 << 40, 0)
        self.verifier = verifier
        self.told: list[Imported] = []

    def take(self, stick: Path) -> list[str]:
        self.told.clear()
        import_models(stick, self.target, self.verifier, self.told.append)
        return [one.reference for one in self.told if one.words.startswith("imported")]

    def refusal(self, stick: Path) -> ChangeoverError:
        with pytest.raises(ChangeoverError) as refused:
            self.take(stick)
        return refused.value

    @property
    def catalog(self) -> Catalog:
        return Catalog.load(self.target.catalog_file, self.target.store_dir)

    def files(self) -> set[str]:
        """Return all files of the store, by their names."""
        return {path.name for path in self.target.store_dir.rglob("*") if path.is_file()}


def keyed(key: SecretKey, tmp_path: Path) -> Verifier:
    return Verifier((key.public.line,), "", str(tmp_path / "state"))


@pytest.fixture
def signed(tmp_path: Path, key: SecretKey) -> Path:
    """Write a stick with two models that `key` has signed."""
    box = Box(tmp_path / "writer")
    store = Store(box.target.catalog_file, box.target.store_dir)
    for name in ("cap", "hat"):
        source = write_tiny_model(tmp_path / f"{name}.onnx", names=(name,))
        sign_model(source, key)
        store.add(Release(reference_of(f"{name}:n@1"), (name,)), source)
    stick = tmp_path / "stick"
    bundle(stick, list(box.catalog.versions), keyed(key, tmp_path))
    return stick


def main_file(stick: Path, name: str = "cap") -> Path:
    return stick / "models" / name / "n" / "1" / "model.onnx"


def test_signed_models_are_imported_once(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    assert box.take(signed) == ["cap:n@1", "hat:n@1"]
    assert [one.classes for one in box.catalog.versions] == [("cap",), ("hat",)]
    for version in box.catalog.versions:
        assert box.verifier is not None
        box.verifier.verify_file(version, Path(version.path))
    assert box.take(signed) == []
    assert {one.words for one in box.told} == {"is in the catalog already"}


def in_catalog(box: Box, file: str, sha256: str) -> str:
    """Enter `cap:n@1` from a place that this device cannot reach; return the catalog's text."""
    row = f'name = "cap"\nvariant = "n"\nversion = "1"\nfile = "{file}"\nsha256 = "{sha256}"\n'
    box.target.catalog_file.parent.mkdir(parents=True, exist_ok=True)
    box.target.catalog_file.write_text(f"# the plant's own\n[[model]]\n{row}")
    return box.target.catalog_file.read_text()


def test_files_that_the_catalog_waits_for_may_come_by_stick(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    """Because a box without a network never fetches what its catalog names."""
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    sha256 = hashlib.sha256(main_file(signed).read_bytes()).hexdigest()
    text = in_catalog(box, "https://models.plant.example/cap.onnx", sha256)
    assert len(box.catalog.missing) == 1
    box.take(signed)
    assert box.told[0].words.startswith("was in the catalog, and its files are here now")
    assert not box.catalog.missing
    assert box.target.catalog_file.read_text().startswith(text)
    (cap,) = (one for one in box.catalog.versions if one.name == "cap")
    assert box.verifier is not None
    box.verifier.verify_file(cap, Path(cap.path))
    box.take(signed)
    assert box.told[0].words == "is in the catalog already"


def test_a_file_that_the_catalog_has_elsewhere_is_not_replaced(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    in_catalog(box, str(tmp_path / "nas" / "cap.onnx"), hashlib.sha256(main_file(signed).read_bytes()).hexdigest())
    assert "is in the catalog, with a file that is not there" in str(box.refusal(signed))
    assert [one.reference for one in box.told if one.error is None] == ["hat:n@1"]


def test_a_stick_for_another_plants_key_is_refused(tmp_path: Path, signed: Path) -> None:
    box = Box(tmp_path / "box", keyed(SecretKey.make(), tmp_path))
    error = box.refusal(signed)
    assert isinstance(error, ModelError)
    assert error.reason == "unsigned"
    assert not box.target.catalog_file.exists()


def unsign(stick: Path) -> None:
    main_file(stick).with_name("model.onnx.minisig").unlink()


def alter(stick: Path) -> None:
    content = bytearray(main_file(stick).read_bytes())
    content[100] ^= 1
    main_file(stick).write_bytes(content)


def cut(stick: Path) -> None:
    os.truncate(main_file(stick), 500)


def lengthen(stick: Path) -> None:
    with main_file(stick).open("ab") as file:
        file.write(b"x")


def link(stick: Path) -> None:
    aside = main_file(stick).rename(stick.parent / "aside.onnx")
    main_file(stick).symlink_to(aside)


def link_folder(stick: Path) -> None:
    aside = main_file(stick).parent.rename(stick.parent / "aside")
    main_file(stick).parent.symlink_to(aside)


def pipe(stick: Path) -> None:
    main_file(stick).unlink()
    os.mkfifo(main_file(stick))


def device(stick: Path) -> None:
    main_file(stick).unlink()
    main_file(stick).symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (unsign, "unsigned"),
        (alter, "hash_mismatch"),
        (cut, "hash_mismatch"),
        (lengthen, "hash_mismatch"),
        (link, "source_refused"),
        (link_folder, "source_refused"),
        (pipe, "source_refused"),
        (device, "source_refused"),
    ],
)
def test_a_model_that_is_not_as_it_was_signed_is_left_out_alone(
    change: Callable[[Path], None], reason: str, tmp_path: Path, signed: Path, key: SecretKey
) -> None:
    change(signed)
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    error = box.refusal(signed)
    assert isinstance(error, ModelError)
    assert error.reason == reason
    assert [version.reference for version in box.catalog.versions] == ["hat:n@1"]


def rewrite(stick: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the first model of a stick's list, as somebody does who knows its form."""
    rows = msgspec.json.decode((stick / "bundle.json").read_bytes())["models"]
    change(rows[0])
    sha256 = hashlib.sha256(msgspec.json.encode(rows)).hexdigest()
    (stick / "bundle.json").write_bytes(msgspec.json.encode({"v": 1, "models": rows, "sha256": sha256}))


@pytest.mark.parametrize("name", ["../../hat/n/1/model.onnx", "/etc/passwd.onnx", "model.onnx\0", "model.sh", ".."])
def test_a_name_that_leaves_the_stick_is_refused(name: str, tmp_path: Path, signed: Path, key: SecretKey) -> None:
    rewrite(signed, lambda row: row["files"][0].update(name=name))
    error = Box(tmp_path / "box", keyed(key, tmp_path)).refusal(signed)
    assert isinstance(error, ModelError)
    assert error.reason in {"source_refused", "not_understood"}


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 5000, b"x" * (2 << 20), b'{"v":2,"models":[]}', b'{"models":3}'])
def test_a_list_that_is_none_is_refused(content: bytes, tmp_path: Path, signed: Path, key: SecretKey) -> None:
    (signed / "bundle.json").write_bytes(content)
    assert isinstance(Box(tmp_path / "box", keyed(key, tmp_path)).refusal(signed), ModelError)


def test_nothing_of_the_stick_changes_what_protects(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    entry = json.dumps({"unsafe": True, "file": "/etc/passwd", "golden": "/", "iou": 0.5})
    rewrite(signed, lambda row: row.update(entry=entry))
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    box.take(signed)
    version = box.catalog.versions[0]
    assert (version.unsafe, version.golden, version.iou) == (False, None, 0.5)


def test_an_entry_goes_from_box_to_box_with_all_that_it_says_of_the_model(tmp_path: Path, signed: Path) -> None:
    writer, box = Box(tmp_path / "writer"), Box(tmp_path / "box")
    told = 'imgsz = 64\niou = 0.5\npreprocess = { resize = "stretch", mean = [1.0, 2.0, 3.0] }\n'
    catalog = writer.target.catalog_file
    catalog.write_text(catalog.read_text().replace('name = "cap"\n', f'name = "cap"\n{told}'))
    bundle(signed, list(writer.catalog.versions), None)
    box.take(signed)
    for one, other in zip(writer.catalog.versions, box.catalog.versions, strict=True):
        assert msgspec.structs.replace(one, path="") == msgspec.structs.replace(other, path="")


def test_a_list_with_values_that_no_catalog_can_hold_is_read_without_them(
    tmp_path: Path, signed: Path, key: SecretKey
) -> None:
    entry = json.dumps({"imgsz": None, "rank": None, "preprocess": {"scale": None, "resize": "corner"}})
    rewrite(signed, lambda row: row.update(entry=entry))
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    assert box.take(signed) == ["cap:n@1", "hat:n@1"]
    assert box.catalog.versions[0].preprocess.resize == "corner"


def test_a_cut_import_goes_on_where_it_was(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    sha256 = json.loads((signed / "bundle.json").read_bytes())["models"][0]["files"][0]["sha256"]
    part = box.target.store_dir / ".parts" / f"stick-{sha256}" / "model.onnx"
    part.parent.mkdir(parents=True)
    content = main_file(signed).read_bytes()
    part.write_bytes(content[:700])
    main_file(signed).write_bytes(b"x" * 700 + content[700:])  # what is here already is not read again
    assert box.take(signed) == ["cap:n@1", "hat:n@1"]


def test_an_import_by_root_leaves_the_store_to_the_service(
    tmp_path: Path, signed: Path, key: SecretKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    given: list[str] = []
    monkeypatch.setattr("agent.models.store.os.geteuid", lambda: 0)
    monkeypatch.setattr("agent.models.store.os.chown", lambda path, *_who, **_how: given.append(path.name))
    box.take(signed)
    assert ".parts" in given


def test_a_damaged_part_is_fetched_again(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    sha256 = json.loads((signed / "bundle.json").read_bytes())["models"][0]["files"][0]["sha256"]
    part = box.target.store_dir / ".parts" / f"stick-{sha256}" / "model.onnx"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 700)
    assert box.take(signed) == ["cap:n@1", "hat:n@1"]


def test_a_bundle_that_was_cut_is_written_on(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    cut(signed)
    writer = Box(tmp_path / "writer")
    bundle(signed, list(writer.catalog.versions), keyed(key, tmp_path))
    assert Box(tmp_path / "box", keyed(key, tmp_path)).take(signed) == ["cap:n@1", "hat:n@1"]


def test_no_room_is_an_error_that_a_retry_may_cure(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    for target in (replace(box.target, min_free_bytes=1 << 60), replace(box.target, max_bytes=1000)):
        box.target = target
        assert isinstance(box.refusal(signed), NoRoomError)
        assert box.files() == set()


def test_what_nobody_names_goes_for_a_stick(tmp_path: Path, signed: Path, key: SecretKey) -> None:
    box = Box(tmp_path / "box", keyed(key, tmp_path))
    old = box.target.store_dir / "sha256" / ("0" * 64)
    old.mkdir(parents=True)
    (old / "model.onnx").write_bytes(b"x" * 200_000)
    os.utime(old, (0, 0))
    box.target = replace(box.target, max_bytes=200_000)
    assert box.take(signed) == ["cap:n@1", "hat:n@1"]
    assert not old.exists()


def test_an_empty_folder_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert isinstance(Box(tmp_path / "box").refusal(tmp_path / "empty"), MistakeError)


@pytest.fixture
def plant(tmp_path: Path) -> PlantIndex:
    return PlantIndex(tmp_path / "plant").add("cap:n@1", publish=False).add("hat:n@1")


def trusting(tmp_path: Path, plant: PlantIndex, name: str) -> Box:
    return Box(tmp_path / name, TrustingDevice(tmp_path / f"{name}-device", plant.root).verifier)


def test_a_copy_of_an_index_is_a_stick(tmp_path: Path, plant: PlantIndex) -> None:
    box = trusting(tmp_path, plant, "box")
    assert box.take(plant.path) == ["cap:n@1", "hat:n@1"]
    assert [version.confidence for version in box.catalog.versions] == [0.4, 0.4]


def test_a_bundle_of_an_indexs_models_goes_from_box_to_box(tmp_path: Path, plant: PlantIndex) -> None:
    one, other = trusting(tmp_path, plant, "one"), trusting(tmp_path, plant, "other")
    one.take(plant.path)
    hats = [version for version in one.catalog.versions if version.name == "hat"]
    bundle(tmp_path / "stick", hats, one.verifier)
    assert other.take(tmp_path / "stick") == ["hat:n@1"]


def test_an_older_stick_and_a_revoked_model_are_refused(tmp_path: Path, plant: PlantIndex) -> None:
    old = plant.copy(tmp_path / "old")
    box = trusting(tmp_path, plant, "box")
    plant.revoke("hat:n@1")
    assert box.take(plant.path) == ["cap:n@1"]
    error = box.refusal(old)
    assert isinstance(error, ModelError)
    assert error.reason == "stale"
    assert [version.reference for version in box.catalog.versions] == ["cap:n@1"]


def test_another_plants_stick_is_refused(tmp_path: Path, plant: PlantIndex) -> None:
    error = trusting(tmp_path, PlantIndex(tmp_path / "elsewhere").add("cap:n@1"), "box").refusal(plant.path)
    assert isinstance(error, ModelError)
    assert error.reason == "unsigned"
