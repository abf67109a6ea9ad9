"""At a load, the bytes that are hashed must be trusted: by a signature, or by the index."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.plant_index import PlantIndex, TrustingDevice
from support.tiny_models import write_tiny_model

from agent.inference.swapping.file_check import FileCheck
from agent.messages.children import TrustSetup
from agent.messages.errors import ModelError
from agent.messages.references import ModelFile, ModelVersion
from agent.trust.authoring.signing import sign_file, sign_model
from agent.trust.minisign import SecretKey
from agent.trust.opening import opener


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return write_tiny_model(folder / "cap.onnx", names=("cap",))


def version_of(path: Path, **more: Any) -> ModelVersion:  # noqa: ANN401 - fields of the version
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return ModelVersion("cap", "n", "1", str(path), sha256, **more)


def check_of(tmp_path: Path, *keys: SecretKey, root: str = "") -> FileCheck:
    setup = TrustSetup(tuple(key.public.line for key in keys), root, str(tmp_path / "device" / "state"))
    return FileCheck(settled_ns=-1, open_verifier=opener(setup))


def refusal(call: Callable[[ModelVersion], object], version: ModelVersion) -> str:
    with pytest.raises(ModelError) as refused:
        call(version)
    return refused.value.reason


def test_a_signed_file_may_be_loaded(tmp_path: Path, model: Path, key: SecretKey) -> None:
    sign_model(model, key)
    check, version = check_of(tmp_path, SecretKey.make(), key), version_of(model)
    assert check.require_right(version) == check.require_unchanged(version) == model.stat().st_size
    check.require_same(version)


def test_a_file_without_a_signature_may_not(tmp_path: Path, model: Path, key: SecretKey) -> None:
    check, version = check_of(tmp_path, key), version_of(model)
    assert refusal(check.require_right, version) == "unsigned"
    assert refusal(check.require_unchanged, version) == "unsigned"


def test_what_was_verified_without_a_key_is_no_signature(tmp_path: Path, model: Path, key: SecretKey) -> None:
    check, version, without = check_of(tmp_path, key), version_of(model), FileCheck(settled_ns=-1)
    without.require_right(version)
    check.recall(version, without.remembered(version))
    assert refusal(check.require_unchanged, version) == "unsigned"


def test_a_signature_of_another_key_is_none(tmp_path: Path, model: Path, key: SecretKey) -> None:
    sign_model(model, SecretKey.make())
    assert refusal(check_of(tmp_path, key).require_right, version_of(model)) == "unsigned"


def test_a_signature_for_one_model_is_for_no_other(tmp_path: Path, model: Path, key: SecretKey) -> None:
    sign_model(model, key, "cap:n@1")
    check, version = check_of(tmp_path, key), version_of(model)
    check.require_right(version)
    assert refusal(check.require_right, msgspec.structs.replace(version, version="2")) == "unsigned"


def test_a_hand_edited_entry_helps_nobody(tmp_path: Path, model: Path, key: SecretKey) -> None:
    sign_model(model, key)
    write_tiny_model(model, names=("other",))
    assert refusal(check_of(tmp_path, key).require_right, version_of(model)) == "unsigned"


def test_a_signature_may_lie_where_the_entry_says(tmp_path: Path, model: Path, key: SecretKey) -> None:
    sign_model(model, key)
    moved = shutil.move(model.with_name("cap.onnx.minisig"), tmp_path / "elsewhere.minisig")
    check_of(tmp_path, key).require_right(version_of(model, signature=str(moved)))


def test_what_is_read_beside_the_file_needs_a_signature_too(tmp_path: Path, model: Path, key: SecretKey) -> None:
    weights = model.with_name("cap.bin")
    weights.write_bytes(b"weights")
    sign_file(model, key)
    version = version_of(model, files=(ModelFile("cap.bin", hashlib.sha256(b"weights").hexdigest()),))
    check = check_of(tmp_path, key)
    assert refusal(check.require_right, version) == "unsigned"
    sign_file(weights, key)
    check.require_right(version)


def replaced(model: Path) -> None:
    write_tiny_model(model.with_name("new"), names=("other",)).replace(model)


def linked(model: Path) -> None:
    other = write_tiny_model(model.with_name("new"), names=("other",))
    model.unlink()
    model.symlink_to(other)


def put_back(model: Path) -> None:
    aside = model.rename(model.with_name("aside"))
    write_tiny_model(model, names=("other",))
    aside.replace(model)


def linked_folder(model: Path) -> None:
    aside = model.parent.rename(model.parent.with_name("aside"))
    shutil.copytree(aside, model.parent)


@pytest.mark.parametrize("change", [replaced, linked, put_back, linked_folder])
def test_a_file_that_was_changed_while_it_was_loaded_is_refused(
    change: Callable[[Path], None], tmp_path: Path, model: Path, key: SecretKey
) -> None:
    sign_model(model, key)
    check, version = check_of(tmp_path, key), version_of(model)
    check.require_right(version)
    before = os.stat(model).st_ctime_ns  # noqa: PTH116 - beside the loop's
    scratch = model.with_name("scratch")
    scratch.touch()
    while scratch.stat().st_ctime_ns <= before:  # the file system's clock ticks in milliseconds
        scratch.touch()
    change(model)
    assert refusal(check.require_same, version) == "hash_mismatch"


def test_a_signature_that_is_no_file_is_none(tmp_path: Path, model: Path, key: SecretKey) -> None:
    check, signature = check_of(tmp_path, key), model.with_name("cap.onnx.minisig")
    signature.mkdir()
    assert refusal(check.require_right, version_of(model)) == "unsigned"
    signature.rmdir()
    os.mkfifo(signature)
    assert refusal(check.require_right, version_of(model)) == "unsigned"


@pytest.fixture
def plant(tmp_path: Path) -> PlantIndex:
    return PlantIndex(tmp_path / "plant").add("cap:n@1")


@pytest.fixture
def device(plant: PlantIndex, tmp_path: Path) -> TrustingDevice:
    made = TrustingDevice(tmp_path / "device", plant.root)
    made.take(plant.path)
    return made


def test_what_the_index_has_signed_may_be_loaded_and_nothing_else(
    tmp_path: Path, plant: PlantIndex, device: TrustingDevice
) -> None:
    version = version_of(plant.path / "models/cap/n/1/model.onnx", confidence=0.4)
    check = check_of(tmp_path, root=str(device.root))
    check.require_right(version)
    other = write_tiny_model(tmp_path / "other.onnx", names=("other",))
    assert refusal(check.require_right, version_of(other)) == "unsigned"
    renamed = msgspec.structs.replace(version, version="2")
    assert refusal(check.require_right, renamed) == "unsigned"
    assert refusal(check.require_right, msgspec.structs.replace(version, path=str(other))) == "hash_mismatch"
    more = msgspec.structs.replace(version, files=(ModelFile("model.bin", "0" * 64),))
    assert refusal(check.require_right, more) == "unsigned"


@pytest.mark.parametrize(
    "edited",
    [{"confidence": 0.99}, {"iou": 0.1}, {"classes": ("cap",)}, {"imgsz": 64}, {"layout": "v5"}, {"task": "obb"}],
)
def test_what_a_model_answers_by_must_be_as_the_index_has_signed_it(
    tmp_path: Path, plant: PlantIndex, device: TrustingDevice, edited: dict[str, Any]
) -> None:
    version = version_of(plant.path / "models/cap/n/1/model.onnx", confidence=0.4)
    check = check_of(tmp_path, root=str(device.root))
    check.require_right(msgspec.structs.replace(version, backend="onnxruntime", rank=7.0))
    with pytest.raises(ModelError, match=f"its {next(iter(edited))} in the catalog is") as refused:
        check.require_right(msgspec.structs.replace(version, **edited))
    assert refused.value.reason == "unsigned"


@pytest.mark.parametrize("what", ["cap@1", "sha256"])
def test_a_revoked_model_is_refused_also_where_its_file_is_known(
    what: str, tmp_path: Path, plant: PlantIndex, device: TrustingDevice
) -> None:
    version = version_of(plant.path / "models/cap/n/1/model.onnx", confidence=0.4)
    check = check_of(tmp_path, root=str(device.root))
    check.require_right(version)
    plant.revoke(version.sha256 if what == "sha256" else what)
    device.take(plant.path)
    for call in (check.require_unchanged, check.require_same, check.require_right):
        assert refusal(call, version) == "revoked"
    again = msgspec.structs.replace(version, version="9", name="hat")
    assert refusal(check.require_right, again) == ("revoked" if what == "sha256" else "unsigned")


def test_without_an_index_on_the_device_nothing_is_loaded(tmp_path: Path, plant: PlantIndex) -> None:
    fresh = TrustingDevice(tmp_path / "device", plant.root)
    version = version_of(plant.path / "models/cap/n/1/model.onnx", confidence=0.4)
    assert refusal(check_of(tmp_path, root=str(fresh.root)).require_right, version) == "unsigned"


def test_an_altered_kept_index_is_refused(tmp_path: Path, plant: PlantIndex, device: TrustingDevice) -> None:
    version = version_of(plant.path / "models/cap/n/1/model.onnx", confidence=0.4)
    file = device.state_dir / "trust" / "index.json"
    kept = msgspec.json.decode(file.read_bytes())
    stranger = PlantIndex(tmp_path / "elsewhere").add("cap:n@1")
    other = TrustingDevice(tmp_path / "other", stranger.root)
    other.take(stranger.path)
    theirs = msgspec.json.decode((other.state_dir / "trust" / "index.json").read_bytes())
    file.write_bytes(msgspec.json.encode(theirs | {"anchor_sha256": kept["anchor_sha256"]}))
    assert refusal(check_of(tmp_path, root=str(device.root)).require_right, version) == "unsigned"


def test_nothing_is_opened_where_nothing_is_configured() -> None:
    assert opener(None) is None
