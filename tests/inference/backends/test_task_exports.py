"""Exports of each task by ultralytics answer as torch does, on every runtime, and a `.pt` is prepared behind walls."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray
from support import shapes
from support.exported import awaken, cut, letterboxed, soften
from support.task_answers import ADDS

from agent.files import file_sha256
from agent.inference import backends
from agent.inference.backends.detector import Detector, Look
from agent.inference.preparing.build_process import prepare
from agent.inference.validation import parity
from agent.inference.yolo.detections import objects_of, top_of
from agent.messages.references import ModelVersion
from agent.models.preparation import Request

pytestmark = [
    pytest.mark.torch,
    pytest.mark.filterwarnings("ignore"),  # torch's exporter and ultralytics warn of their own matters
]

Untyped = Any
VersionOf = Callable[..., ModelVersion]

SIDE: Final = 96
CUT: Final = 16
"""Columns that a classifier cuts off at each side."""
FAMILIES: Final = (
    ("yolov8n", "segment"),
    ("yolo11n", "pose"),
    ("yolo12n", "obb"),
    ("yolo26n", "segment"),
    ("yolo11n", "classify"),
)
FURTHEST: Final = 1e-3
"""Most difference of a number, as a share of the output's largest."""


@dataclass(frozen=True)
class Exported:
    task: str
    raw: tuple[NDArray[np.float32], ...]
    onnx: Path
    checkpoint: Path


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def torch(cache_dir: Path) -> Untyped:
    ultralytics = pytest.importorskip("agent.inference.backends.ultralytics")
    return ultralytics.import_ultralytics(cache_dir)[0]


def picture_of(task: str) -> NDArray[np.uint8]:
    """Draw a frame that an input of SIDE takes without scaling, because random weights amplify its rounding."""
    return shapes.frame(5, (SIDE, SIDE + 2 * CUT) if task == "classify" else (SIDE * 3 // 4, SIDE))[0]


@pytest.fixture(scope="module", params=FAMILIES, ids="-".join)
def exported(request: pytest.FixtureRequest, torch: Untyped, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    network, task = request.param
    folder = tmp_path_factory.mktemp(f"{network}-{task}")
    fresh = shapes.untrained(torch, network, task, folder)
    picture = picture_of(task)
    tensor = letterboxed(torch, picture[:, CUT:-CUT] if task == "classify" else picture, SIDE)
    awaken(torch, fresh.model, tensor, 1.0, 0.0)
    if task != "classify":
        soften(torch, fresh.model, tensor)  # or keypoints on other pictures are beyond any frame, and refused
    checkpoint = folder / "network.pt"
    fresh.save(checkpoint)
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely

    exported = shapes.export(YOLO(checkpoint), folder, SIDE)
    with torch.inference_mode():
        answer = YOLO(checkpoint).model.float().eval()(tensor)
    parts = answer[0] if isinstance(answer[0], list | tuple) else answer[:1]
    return Exported(task, tuple(part.numpy() for part in parts), exported, checkpoint)


def furthest(want: NDArray[np.floating], got: NDArray[np.floating]) -> float:
    assert want.shape == got.shape
    return float(np.abs(want - got).max() / np.abs(want).max())


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime", "ultralytics"])
def test_raw_outputs_are_torchs(exported: Exported, version: VersionOf, cache_dir: Path, backend: str) -> None:
    pytest.importorskip(f"agent.inference.backends.{backend}")
    path = exported.checkpoint if backend == "ultralytics" else exported.onnx
    entry = version(path, backend=backend, imgsz=SIDE, unsafe=backend == "ultralytics")
    is_f32 = backend == "openvino"
    model = backends.load_for(entry, "cpu", "f32") if is_f32 else backends.load(entry, "cpu", cache_dir)
    assert isinstance(model, Detector)
    assert model.reading.task == exported.task
    picture = picture_of(exported.task)
    raw = model.prepare(picture).request.run()
    assert len(raw) == len(exported.raw)
    for want, got in zip(model.head.parts(exported.raw), model.head.parts(raw), strict=True):
        assert furthest(want, got) <= FURTHEST
    model.check_outputs(picture)
    model.close()


def test_a_checkpoint_of_each_task_is_prepared_and_served(
    exported: Exported, version: VersionOf, tmp_path: Path
) -> None:
    entry = version(
        exported.checkpoint, sha256=file_sha256(exported.checkpoint), imgsz=SIDE, confidence=0.01, backend="auto"
    )
    outcome = prepare(Request(entry, "cpu", str(tmp_path)), lambda _: None)
    assert outcome.result == "prepared", outcome
    model = backends.load(entry, "cpu", tmp_path)
    answer = model.check_outputs(picture_of(exported.task))
    assert model.reading.task == exported.task
    if exported.task == "classify":
        assert isinstance(top_of(answer, model.names), list)
    else:
        found = objects_of(answer, model.names)
        assert found
        assert all(getattr(item, ADDS[exported.task]) for item in found)
    model.close()


@pytest.mark.parametrize("exported", [("yolo11n", "pose")], ids="-".join, indirect=True)
def test_a_precision_that_breaks_only_keypoints_is_not_enough(exported: Exported, version: VersionOf) -> None:
    pytest.importorskip("agent.inference.backends.openvino")

    def looks(path: Path) -> list[Look]:
        model = backends.load_for(version(path, backend="openvino", imgsz=SIDE), "cpu", "f32")
        assert isinstance(model, Detector)
        try:
            return parity.looks(model, [picture_of(exported.task)])
        finally:
            model.close()

    want = looks(exported.onnx)
    for bits, is_enough in ((8, True), (2, False), (1, False)):
        found = looks(cut(exported.onnx, "cv4", bits))
        assert parity.compare_looks(want, found, 0.25, is_drawn=True).is_enough is is_enough, bits
