"""A worker serves from artifacts where they are good, and never lets one hide a file that is not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from inference.worker.plant import PlantProcess

from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends import artifact_key
from agent.inference.preparing.build_process import prepare
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

pytest.importorskip("agent.inference.backends.openvino")

NewPlant = Callable[..., PlantProcess]
MakeVersion = Callable[..., ModelVersion]


@pytest.fixture
def prepared(make_version: MakeVersion, tmp_path: Path) -> ModelVersion:
    version = make_version("cap")
    assert prepare(Request(version, "cpu", str(tmp_path / "cache")), lambda _: None).result == "prepared"
    return version


def measured(cache_dir: Path) -> list[str]:
    """Name the kinds of what was measured."""
    return [key.rpartition("/")[2] for key in json.loads((cache_dir / "footprints.json").read_text())]


def test_the_artifact_is_what_is_loaded(new_plant: NewPlant, prepared: ModelVersion, tmp_path: Path) -> None:
    plant = new_plant()
    plant.switch(prepared)
    assert plant.detect().model == "cap:n@1"
    assert measured(tmp_path / "cache") == ["artifact"]


def test_a_file_of_another_sha256_is_refused_whatever_was_made_of_the_right_one(
    new_plant: NewPlant, prepared: ModelVersion
) -> None:
    plant = new_plant()
    Path(prepared.path).write_bytes(b"another")
    assert plant.refusal(prepared).reason == "hash_mismatch"


def test_a_damaged_artifact_costs_nothing_but_time(new_plant: NewPlant, prepared: ModelVersion, tmp_path: Path) -> None:
    artifacts, key = ArtifactStore(tmp_path / "cache"), artifact_key(prepared, "cpu")
    found = artifacts.find(key)
    assert key is not None
    assert found is not None
    (artifacts.folder / key / found.file).write_bytes(bytes(found.bytes))
    plant = new_plant()
    plant.switch(prepared)
    assert plant.detect().model == "cap:n@1"
    assert artifacts.find(key) is None
