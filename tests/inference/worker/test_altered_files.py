"""A worker serves no model of which any file is another one than the catalog names."""

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from inference.worker.plant import PlantProcess, entry_of, sha256_of
from support.tiny_models import write_tiny_model

from agent.inference.preparing.build_process import prepare
from agent.messages.references import ModelFile, ModelVersion
from agent.models.preparation import Request

ov = pytest.importorskip("agent.inference.backends.openvino").ov

NewPlant = Callable[..., PlantProcess]
NAMES = "task: detect\nimgsz: [64, 64]\nnames: {0: round cap, 1: no cap}\n"


def release(main: Path, *beside: str) -> ModelVersion:
    files = tuple(ModelFile(name, sha256_of(main.parent / name)) for name in beside)
    return entry_of("cap", main, {"files": files})


def with_external_weights(folder: Path) -> ModelVersion:
    path = write_tiny_model(folder / "cap.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="cap.data", size_threshold=1024)
    return release(path, "cap.data")


def exported_to_openvino(folder: Path) -> ModelVersion:
    model = ov.Core().read_model(write_tiny_model(folder / "source.onnx", metadata=False))
    ov.save_model(model, folder / "cap.xml")
    (folder / "metadata.yaml").write_text(NAMES)
    return release(folder / "cap.xml", "cap.bin", "metadata.yaml")


CASES = [
    (with_external_weights, "cap.onnx"),
    (with_external_weights, "cap.data"),
    (exported_to_openvino, "cap.xml"),
    (exported_to_openvino, "cap.bin"),
    (exported_to_openvino, "metadata.yaml"),
]


@pytest.mark.parametrize("is_prepared", [False, True], ids=["file", "prepared"])
@pytest.mark.parametrize(("build", "altered"), CASES, ids=[name for _, name in CASES])
def test_an_altered_file_is_not_served(
    new_plant: NewPlant, tmp_path: Path, build: Callable[[Path], ModelVersion], altered: str, *, is_prepared: bool
) -> None:
    (tmp_path / "models").mkdir()
    version = build(tmp_path / "models")
    if is_prepared:
        assert prepare(Request(version, "cpu", str(tmp_path / "cache")), lambda _: None).result == "prepared"
    file = tmp_path / "models" / altered
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    plant = new_plant()
    refusal = plant.refusal(version)
    assert (refusal.reason, altered in refusal.detail) == ("hash_mismatch", True)
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    plant.switch(version)
    assert plant.detect().model == "cap:n@1"


@pytest.mark.parametrize("build", [with_external_weights, exported_to_openvino])
def test_other_weights_under_the_same_graph_have_an_artifact_of_their_own(
    tmp_path: Path, build: Callable[[Path], ModelVersion]
) -> None:
    (tmp_path / "models").mkdir()
    version = build(tmp_path / "models")
    request = Request(version, "cpu", str(tmp_path / "cache"))
    assert prepare(request, lambda _: None).result == "prepared"
    weights = tmp_path / "models" / version.files[0].name
    weights.write_bytes(weights.read_bytes() + b"\0")
    files = (ModelFile(version.files[0].name, sha256_of(weights)), *version.files[1:])
    other = Request(entry_of("cap", Path(version.path), {"files": files}), "cpu", str(tmp_path / "cache"))
    assert prepare(other, lambda _: None).result == "prepared"
