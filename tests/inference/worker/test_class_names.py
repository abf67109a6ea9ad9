"""Class names come through from a file to a served detection as they were written, whatever they hold."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from inference.worker.plant import PlantProcess, sha256_of
from support.tiny_models import version_of, write_tiny_model

from agent.inference.preparing.build_process import prepare
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

NAMES: Final = ("bad cap [x]", 'it\'s {2}: "ok", or not', "größe 3", "0")
BOXES: Final = tuple((8.0, 10.0 * row, 40.0, 10.0 * row + 8, 0.9 - row / 100, row) for row in range(len(NAMES)))
BY_ULTRALYTICS: Final = {"description": "Ultralytics YOLO11n model", "task": "detect", "stride": 32, "imgsz": [64, 64]}


def entry(path: Path, name: str, backend: str) -> ModelVersion:
    return version_of(path, name=name, sha256=sha256_of(path), backend=backend)


def onnx(folder: Path, name: str, backend: str) -> ModelVersion:
    return entry(write_tiny_model(folder / f"{name}.onnx", NAMES, BOXES), name, backend)


def prepared(folder: Path, name: str, backend: str) -> ModelVersion:
    version = onnx(folder, name, backend)
    assert prepare(Request(version, "cpu", str(folder / "cache")), lambda _: None).result == "prepared"
    return version


def folder_of_ultralytics(folder: Path, name: str, backend: str) -> ModelVersion:
    return ir(folder / name, "metadata.yaml", BY_ULTRALYTICS, name, backend)


def folder_of_yolov5(folder: Path, name: str, backend: str) -> ModelVersion:
    return ir(folder / name, "best.yaml", {"stride": 32}, name, backend)


def ir(folder: Path, sidecar: str, said: dict[str, object], name: str, backend: str) -> ModelVersion:
    from agent.inference.backends.openvino_graph import core, ov  # noqa: PLC0415 - only where it is installed

    folder.mkdir()
    plain = write_tiny_model(folder / "plain.onnx", NAMES, BOXES, metadata=False)
    ov.save_model(core().read_model(plain), folder / "best.xml")
    plain.unlink()
    names = json.dumps({**said, "names": dict(enumerate(NAMES))})  # JSON is YAML
    (folder / sidecar).write_text(names, encoding="utf-8")
    return entry(folder / "best.xml", name, backend)


MADE: Final[dict[str, tuple[Callable[[Path, str, str], ModelVersion], ...]]] = {
    "openvino": (onnx, prepared, folder_of_ultralytics, folder_of_yolov5),
    "onnxruntime": (onnx, prepared),
}


@pytest.mark.parametrize("backend", MADE)
def test_names_come_through(new_plant: Callable[..., PlantProcess], tmp_path: Path, backend: str) -> None:
    pytest.importorskip(f"agent.inference.backends.{backend}")
    plant = new_plant()
    for number, make in enumerate(MADE[backend]):
        plant.switch(make(tmp_path, f"cap-{number}", backend))
        served = plant.detect()
        labels = [item["label"] for item in json.loads(b"{" + served.tail)["objects"]]
        assert labels == list(NAMES), make.__name__
        assert dict(served.counts) == dict.fromkeys(NAMES, 1)
