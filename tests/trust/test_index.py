"""A device takes a good index whenever it comes, and neither an older one nor one of somebody else."""

import json
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.formats import encode_canonical
from support.plant_index import YEAR_1970, PlantIndex, TrustingDevice

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.trust.authoring import changes
from agent.trust.authoring.index_folder import IndexFolder
from agent.trust.index.kept_index import IndexKeeper
from agent.trust.index.keys import index_key
from agent.trust.index.metadata import canonical
from agent.trust.index_state import read_index_state


@pytest.fixture
def plant(tmp_path: Path) -> PlantIndex:
    return PlantIndex(tmp_path / "plant").add("cap:n@1")


@pytest.fixture
def device(plant: PlantIndex, tmp_path: Path) -> TrustingDevice:
    return TrustingDevice(tmp_path / "device", plant.root)


def refusal(device: TrustingDevice, folder: Path) -> str:
    with pytest.raises(ModelError) as refused:
        device.take(folder)
    return refused.value.reason


def test_it_takes_the_models_of_its_plant(plant: PlantIndex, device: TrustingDevice) -> None:
    assert device.take(plant.path) == ["cap:n@1"]
    assert device.take(plant.path) == ["cap:n@1"]
    assert device.restarted().verified_index().contents.models.keys() == {"cap:n@1"}
    plant.add("hat:s@2")
    assert device.take(plant.path) == ["cap:n@1", "hat:s@2"]


def test_off_for_400_days_with_the_clock_at_1970_it_takes_a_good_stick(tmp_path: Path) -> None:
    plant = PlantIndex(tmp_path / "plant").add("cap:n@1").publish(days=1)
    device = TrustingDevice(tmp_path / "device", plant.root)
    device.take(plant.path)
    for use in ("root", "models", "publish"):  # what a year brings
        plant.rotate(use)
    plant.revoke("cap:n@1").add("cap:n@2")
    assert device.take(plant.path, YEAR_1970) == ["cap:n@2"]


def test_it_tells_an_index_whose_time_is_over_and_goes_on(plant: PlantIndex, device: TrustingDevice) -> None:
    device.take(plant.path)
    state = read_index_state(device.state_dir)
    assert state is not None
    issued = device.restarted().verified_index()
    assert not state.is_stale(YEAR_1970)
    assert state.age_s(YEAR_1970) is None
    later = issued.expires.replace(year=issued.expires.year + 1)
    assert state.is_stale(later)
    assert (state.age_s(later) or 0) > 365 * 86400
    assert device.take(plant.path, later) == ["cap:n@1"]


def test_with_require_fresh_an_index_whose_time_is_over_is_stale(plant: PlantIndex, tmp_path: Path) -> None:
    device = TrustingDevice(tmp_path / "device", plant.root, require_fresh=True)
    device.take(plant.path)
    expires = device.restarted().verified_index().expires
    with pytest.raises(ModelError, match="publish") as refused:
        device.take(plant.path, expires)
    assert refused.value.reason == "stale"
    assert device.take(plant.path, YEAR_1970) == ["cap:n@1"]


def test_an_older_index_is_stale(plant: PlantIndex, device: TrustingDevice, tmp_path: Path) -> None:
    old = plant.copy(tmp_path / "old")
    plant.revoke("cap@1")
    device.take(plant.path)
    assert refusal(device, old) == "stale"
    assert device.restarted().verified_index().contents.revoked_models == ("cap@1",)


def test_a_device_that_saw_neither_takes_the_old_one(plant: PlantIndex, device: TrustingDevice, tmp_path: Path) -> None:
    old = plant.copy(tmp_path / "old")
    plant.revoke("cap@1")
    assert device.take(old) == ["cap:n@1"]
    assert device.take(plant.path) == []


def test_the_same_version_with_other_content_is_refused(
    plant: PlantIndex, device: TrustingDevice, tmp_path: Path
) -> None:
    other = plant.copy(tmp_path / "other")
    plant.publish(days=30)
    device.take(plant.path)
    changes.publish(IndexFolder(other, plant.keys), 20)
    assert refusal(device, other) == "hash_mismatch"


def test_another_plants_index_is_unsigned(device: TrustingDevice, tmp_path: Path) -> None:
    assert refusal(device, PlantIndex(tmp_path / "elsewhere").add("cap:n@1").path) == "unsigned"


def test_another_plants_root_replaced_by_hand_begins_anew(
    plant: PlantIndex, device: TrustingDevice, tmp_path: Path
) -> None:
    device.take(plant.path)
    other = PlantIndex(tmp_path / "elsewhere").add("hat:n@1")
    device.root.write_bytes(other.root.read_bytes())
    with pytest.raises(ModelError, match="no index of the configured root"):
        device.restarted().verified_index()
    assert device.take(other.path) == ["hat:n@1"]


@pytest.mark.parametrize("name", ["timestamp.json", "2.targets.json", "1.snapshot.json"])
def test_an_incomplete_index_is_refused(name: str, plant: PlantIndex, device: TrustingDevice) -> None:
    (plant.path / name).unlink()
    assert refusal(device, plant.path) == "file_missing"


def test_a_rotated_root_is_followed_over_many_steps(plant: PlantIndex, device: TrustingDevice) -> None:
    device.take(plant.path)
    for _ in range(5):
        plant.rotate("root")
    assert device.take(plant.path) == ["cap:n@1"]


def test_a_root_that_only_its_own_new_keys_signed_is_refused(
    plant: PlantIndex, device: TrustingDevice, tmp_path: Path
) -> None:
    stranger = PlantIndex(tmp_path / "elsewhere")
    stranger.rotate("root")
    (plant.path / "2.root.json").write_bytes((stranger.path / "2.root.json").read_bytes())
    assert refusal(device, plant.path) == "unsigned"


def test_the_old_key_of_the_models_signs_nothing_after_a_rotation(
    plant: PlantIndex, device: TrustingDevice, tmp_path: Path
) -> None:
    stolen = plant.copy(tmp_path / "stolen")
    plant.rotate("models")
    plant.rotate("publish")
    device.take(plant.path)
    (stolen / "2.root.json").write_bytes((plant.path / "2.root.json").read_bytes())
    (stolen / "3.root.json").write_bytes((plant.path / "3.root.json").read_bytes())
    assert refusal(device, stolen) == "unsigned"


def test_a_rotation_cures_versions_that_a_thief_drove_up(plant: PlantIndex, device: TrustingDevice) -> None:
    device.take(plant.path)
    kept = IndexKeeper(device.state_dir).read()
    timestamp = json.loads((plant.path / "timestamp.json").read_bytes())
    timestamp["signed"]["version"] = 10**9
    (plant.path / "timestamp.json").write_bytes(resigned(plant, "publish", timestamp))
    assert device.take(plant.path) == ["cap:n@1"]
    assert IndexKeeper(device.state_dir).read().seen["timestamp"].version > kept.seen["timestamp"].version
    (plant.path / "timestamp.json").unlink()
    plant.publish()
    assert refusal(device, plant.path) == "stale"
    plant.rotate("publish")
    assert device.take(plant.path) == ["cap:n@1"]


def resigned(plant: PlantIndex, use: str, document: dict[str, Any]) -> bytes:
    """Sign altered metadata with the plant's own first key of a use."""
    signatures = []
    for raw in changes.current_keys(plant.index, use):
        secret = plant.keys.secret(raw)
        assert secret is not None
        message = str(encode_canonical(document["signed"])).encode()
        signatures.append({"keyid": index_key(secret.public).keyid, "sig": secret.sign_bytes(message).hex()})
    return canonical({"signed": document["signed"], "signatures": signatures})


def test_a_threshold_of_two_needs_two_keys(tmp_path: Path) -> None:
    plant = PlantIndex(tmp_path / "plant", threshold=2).add("cap:n@1")
    device = TrustingDevice(tmp_path / "device", plant.root)
    assert device.take(plant.path) == ["cap:n@1"]
    root = json.loads((plant.path / "1.root.json").read_bytes())
    assert len(root["signatures"]) == 3
    root["signatures"] = root["signatures"][:1]
    device.root.write_bytes(canonical(root))
    assert refusal(device, plant.path) == "unsigned"


def test_a_key_that_signs_twice_counts_once(plant: PlantIndex, device: TrustingDevice) -> None:
    root = json.loads((plant.path / "1.root.json").read_bytes())
    root["signatures"] *= 2
    device.root.write_bytes(canonical(root))
    assert refusal(device, plant.path) == "unsigned"


def test_a_key_under_two_names_counts_once(plant: PlantIndex, device: TrustingDevice) -> None:
    root = json.loads((plant.path / "1.root.json").read_bytes())
    role, again = root["signed"]["roles"]["root"], "f" * 64
    root["signed"]["keys"][again] = root["signed"]["keys"][role["keyids"][0]]
    role |= {"keyids": [*role["keyids"], again], "threshold": 2}
    signed = json.loads(resigned(plant, "root", root))
    signed["signatures"].append(signed["signatures"][0] | {"keyid": again})
    device.root.write_bytes(canonical(signed))
    assert refusal(device, plant.path) == "unsigned"


def test_a_delegate_signs_what_its_patterns_name_and_nothing_else(plant: PlantIndex, device: TrustingDevice) -> None:
    public = plant.new_key("labels")
    changes.delegate(plant.index, "labels", ("label-*",), (public,))
    plant.publish().add("label-front:n@1", role="labels")
    assert device.take(plant.path) == ["cap:n@1", "label-front:n@1"]
    changes.delegate(plant.index, "labels", ("hat-*",), (public,))
    plant.publish()
    assert device.take(plant.path) == ["cap:n@1"]


@pytest.mark.parametrize("what", ["cap@1", "cap:n@1", "sha256"])
def test_a_revoked_model_is_no_longer_of_the_index(what: str, plant: PlantIndex, device: TrustingDevice) -> None:
    device.take(plant.path)
    model = device.verifier.verified_index().contents.models["cap:n@1"]
    plant.revoke(model.files[0].sha256 if what == "sha256" else what)
    assert device.take(plant.path) == []
    state = read_index_state(device.state_dir)
    assert state is not None
    assert state.revokes(ModelVersion("cap", "n", "1", "", model.files[0].sha256))
    assert not state.revokes(ModelVersion("cap", "n", "2", "", "0" * 64))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 200 + b"1" + b"}" * 200,
        b"{}",
        b"[]",
        b"\xff",
        b"",
        b'{"signatures":[],"signed":{"_type":"timestamp"}}',
        b" " * (17 << 10),
        b'{"signatures":[],"signed":1e999}',
        b'{"signatures":[],"signed":NaN}',
        b"9" * 10_000,
    ],
    ids=["deep-list", "deep", "empty", "list", "binary", "nothing", "bare", "large", "infinite", "nan", "number"],
)
def test_what_is_no_metadata_is_refused(content: bytes, plant: PlantIndex, device: TrustingDevice) -> None:
    (plant.path / "timestamp.json").write_bytes(content)
    assert refusal(device, plant.path) == "unsigned"


def test_a_duplicate_key_is_refused(plant: PlantIndex, device: TrustingDevice) -> None:
    content = (plant.path / "timestamp.json").read_bytes()
    (plant.path / "timestamp.json").write_bytes(content[:-1] + b',"signatures":[]}')
    assert refusal(device, plant.path) == "unsigned"


def test_a_summary_that_a_kill_left_old_is_written_again(plant: PlantIndex, device: TrustingDevice) -> None:
    device.take(plant.path)
    summary = device.state_dir / "trust" / "state.json"
    old, version = summary.read_bytes(), ModelVersion("cap", "n", "1", "", "0" * 64)
    device.take(plant.revoke("cap:n@1").path)
    summary.write_bytes(old)
    with pytest.raises(ModelError, match="revoked"):
        device.restarted().require_listed(version)
    state = read_index_state(device.state_dir)
    assert state is not None
    assert state.revoked_models == ("cap:n@1",)
    summary.unlink()
    summary.mkdir()  # which nobody can replace
    with pytest.raises(ModelError, match="revoked"):
        device.restarted().require_listed(version)


def test_a_damaged_state_is_no_new_beginning(plant: PlantIndex, device: TrustingDevice) -> None:
    device.take(plant.path)
    (device.state_dir / "trust" / "index.json").write_bytes(b"{")
    assert refusal(device, plant.path) == "unsigned"
