"""Keys stay in their folder, and what needs several of them waits until all have signed."""

import json
import os
from pathlib import Path

import pytest
from support.plant_index import PlantIndex, TrustingDevice, no_password, reference_of
from support.tensor_models import write_affine_model
from support.tiny_models import write_tiny_model

from agent.messages.errors import MistakeError
from agent.models.keeping.copying import Release
from agent.trust.authoring import changes
from agent.trust.authoring.index_folder import IndexFolder
from agent.trust.authoring.key_folder import KeyFolder, read_public, read_secret
from agent.trust.minisign import SecretKey


@pytest.fixture
def plant(tmp_path: Path) -> PlantIndex:
    return PlantIndex(tmp_path / "plant").add("cap:n@1")


def test_secret_keys_are_their_owners_alone_and_no_part_of_the_index(plant: PlantIndex) -> None:
    assert {path.stat().st_mode & 0o777 for path in plant.key_path.glob("*.key")} == {0o600}
    assert plant.key_path.stat().st_mode & 0o777 == 0o700
    served = b"".join(path.read_bytes() for path in plant.path.rglob("*") if path.is_file())
    for path in plant.key_path.glob("*.key"):
        assert read_secret(path, no_password).seed.hex().encode() not in served
        assert path.read_bytes().split(b"\n")[1] not in served


def test_a_key_that_others_may_read_is_not_used(plant: PlantIndex) -> None:
    os.chmod(plant.key_path / "models.key", 0o640)  # noqa: PTH101 - beside the stat of the code
    with pytest.raises(MistakeError, match="chmod 600"):
        changes.revoke(IndexFolder(plant.path, KeyFolder(plant.key_path, no_password)), "cap@1")


def test_a_key_is_never_replaced(plant: PlantIndex) -> None:
    before = (plant.key_path / "models.key").read_bytes()
    with pytest.raises(MistakeError, match="never replaced"):
        plant.keys.make("models", None)
    assert (plant.key_path / "models.key").read_bytes() == before


def test_a_password_is_asked_for_once(tmp_path: Path) -> None:
    asked: list[str] = []
    folder = tmp_path / "keys"
    public = KeyFolder(folder, no_password).make("caps", "secret")

    def ask(name: str) -> str:
        asked.append(name)
        return "secret"

    keys = KeyFolder(folder, ask)
    assert keys.secret(public.raw) == keys.secret(public.raw)
    assert asked == [str(folder / "caps.key")]


def test_releases_are_immutable(plant: PlantIndex, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "other.onnx")
    details = changes.Details(Release(reference_of("cap:n@1")), {})
    with pytest.raises(MistakeError, match="immutable"):
        changes.add(plant.index, source, details)


@pytest.mark.parametrize("entry", [{"iou": 7}, {"layout": "no such"}, {"imgsz": 3}])
def test_a_model_that_no_device_could_read_is_not_added(
    entry: dict[str, object], plant: PlantIndex, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "other.onnx")
    with pytest.raises(MistakeError):
        changes.add(plant.index, source, changes.Details(Release(reference_of("cap:n@2")), entry))


def test_a_model_for_requests_alone_says_so(plant: PlantIndex, tmp_path: Path) -> None:
    source = write_affine_model(tmp_path / "affine.onnx")
    with pytest.raises(MistakeError, match="expected one picture"):
        changes.add(plant.index, source, changes.Details(Release(reference_of("affine:n@1")), {}))
    lines = changes.add(
        plant.index, source, changes.Details(Release(reference_of("affine:n@1"), may_be_tensors=True), {})
    )
    assert lines[1].startswith("only requests can use it: ")


def test_a_second_index_is_not_begun_over_the_first(plant: PlantIndex) -> None:
    with pytest.raises(MistakeError, match="already"):
        changes.begin(plant.index, plant.keys, lambda _: None)


def test_nothing_is_signed_without_its_key(plant: PlantIndex, tmp_path: Path) -> None:
    stranger = IndexFolder(plant.path, KeyFolder(tmp_path / "none", no_password))
    with pytest.raises(MistakeError, match="none of the keys"):
        changes.publish(stranger)
    with pytest.raises(MistakeError, match="none of the keys"):
        changes.revoke(stranger, "cap@1")


def test_a_root_of_two_machines_waits_for_the_second(tmp_path: Path) -> None:
    plant = PlantIndex(tmp_path / "plant", threshold=2).add("cap:n@1")
    device = TrustingDevice(tmp_path / "device", plant.root)
    other = tmp_path / "other"
    other.mkdir()
    for path in plant.key_path.glob("root-[23].*"):
        path.rename(other / path.name)
    here = IndexFolder(plant.path, KeyFolder(plant.key_path, no_password))
    gone = read_public(other / "root-3.pub").raw
    lines = changes.rotate(here, "root", (), (gone,), None)
    assert "needs 1 more signature" in lines[0]
    changes.publish(here)
    assert device.take(plant.path) == ["cap:n@1"]
    assert not (plant.path / "2.root.json").exists()
    there = IndexFolder(plant.path, KeyFolder(other, no_password))
    assert [one.missing for one in there.sign_pending()] == [0]
    assert (plant.path / "2.root.json").exists()
    assert there.sign_pending() == []
    assert device.take(plant.path) == ["cap:n@1"]
    assert len(json.loads((plant.path / "2.root.json").read_bytes())["signed"]["roles"]["root"]["keyids"]) == 2


def test_the_last_key_cannot_be_removed(plant: PlantIndex) -> None:
    with pytest.raises(MistakeError, match="add one"):
        changes.rotate(plant.index, "models", (), changes.current_keys(plant.index, "models"), None)
    with pytest.raises(MistakeError, match="add one"):
        changes.rotate(plant.index, "root", (), (), 2)


def test_a_delegate_may_not_add_what_is_not_its_own(plant: PlantIndex) -> None:
    changes.delegate(plant.index, "labels", ("label-*",), (SecretKey.make().public,))
    with pytest.raises(MistakeError, match="may not sign hat"):
        plant.add("hat:n@1", role="labels")


@pytest.mark.parametrize("role", ["root", "targets", "models", "../x", ""])
def test_a_delegate_has_a_name_of_its_own(role: str, plant: PlantIndex) -> None:
    with pytest.raises(MistakeError):
        changes.delegate(plant.index, role, ("label-*",), (SecretKey.make().public,))


@pytest.mark.parametrize("what", ["cap", "cap:n", "", "0" * 63])
def test_what_is_revoked_is_named_exactly(what: str, plant: PlantIndex) -> None:
    with pytest.raises(MistakeError):
        changes.revoke(plant.index, what)


def test_old_lists_do_not_pile_up(plant: PlantIndex) -> None:
    for _ in range(5):
        plant.publish()
    assert len(list(plant.path.glob("*.snapshot.json"))) == 2
