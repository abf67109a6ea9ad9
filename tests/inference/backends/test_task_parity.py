"""Trained models of each task find what `YOLO.predict` finds with the same file; a soak, because it trains them.

`pytest -m soak tests/inference/backends/test_task_parity.py -s` prints the figures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support import shapes

from agent.inference import backends
from agent.inference.backends.detector import Detector
from agent.inference.validation.golden import iou
from agent.inference.yolo.detections import objects_of, top_of
from agent.messages.payloads import DetectedObject
from agent.messages.references import ModelVersion

pytestmark = [
    pytest.mark.soak,
    pytest.mark.torch,
    pytest.mark.timeout(1_800),
    pytest.mark.filterwarnings("ignore"),  # torch's exporter and ultralytics warn of their own matters
]

Untyped = Any
Picture = NDArray[np.uint8]

SIDE: Final = {"classify": 224}
USUAL_SIDE: Final = 640
TRAINED_SIDE: Final = 160
STEPS: Final = 150
FRAMES: Final = 40
TILE: Final = 160
TILES: Final = (3, 4)
FILLED: Final = 8
FINE: Final = 8
"""Parts of a pixel in which polygons are drawn."""


@dataclass
class Figures:
    """Result of a comparison: all boxes, those that match, and the largest difference in the task's own numbers."""

    boxes: int = 0
    matched: int = 0
    scores: list[float] = field(default_factory=lambda: [0.0])
    masks: list[float] = field(default_factory=list)
    keypoints: list[float] = field(default_factory=list)
    angles: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        said = [f"{self.matched} of {self.boxes} matched", f"scores within {max(self.scores):.5f}"]
        if self.masks:
            said.append(f"masks IoU least {min(self.masks):.4f}, mean {np.mean(self.masks):.4f}")
        if self.keypoints:
            said.append(f"keypoints within {max(self.keypoints):.3f} px")
        if self.angles:
            said.append(f"angles within {max(self.angles):.4f} degrees")
        return ", ".join(said)


def frame(seed: int, task: str) -> Picture:
    """Draw a frame that no training saw, with as many parts as a tray has; one group of parts to classify."""
    if task == "classify":
        return shapes.frame(900_000 + seed, (288, 384))[0]
    dice = np.random.default_rng(seed)
    height, width = (TILE * count for count in TILES)
    picture = dice.normal(90, 8, (height, width, 3)).clip(0, 255).astype(np.uint8)
    for number, place in enumerate(dice.permutation(math.prod(TILES))[:FILLED].tolist()):
        row, column = divmod(place, TILES[1])
        tile = shapes.frame(900_000 + 16 * seed + number, (TILE, TILE))[0]
        picture[row * TILE : (row + 1) * TILE, column * TILE : (column + 1) * TILE] = tile
    return picture


@pytest.fixture(scope="module")
def torch(tmp_path_factory: pytest.TempPathFactory) -> Untyped:
    module = pytest.importorskip("agent.inference.backends.ultralytics")
    return module.import_ultralytics(tmp_path_factory.mktemp("settings"))[0]


@pytest.fixture(scope="module", params=[task for task in shapes.SUFFIXES if task != "detect"])
def trained(
    request: pytest.FixtureRequest, torch: Untyped, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    task = request.param
    folder = tmp_path_factory.mktemp(task)
    fresh = shapes.untrained(torch, "yolo11n", task, folder)
    before, after = shapes.train(torch, fresh, task, TRAINED_SIDE, STEPS)
    assert after < before
    return task, shapes.export(fresh, folder, SIDE.get(task, USUAL_SIDE))


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_it_finds_what_predict_finds(
    trained: tuple[str, Path], version: Callable[..., ModelVersion], tmp_path: Path, backend: str
) -> None:
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely

    pytest.importorskip(f"agent.inference.backends.{backend}")
    task, path = trained
    entry = version(path, backend=backend)
    model = backends.load_for(entry, "cpu", "f32") if backend == "openvino" else backends.load(entry, "cpu", tmp_path)
    assert isinstance(model, Detector)
    yolo, figures = YOLO(path, task=task), Figures()
    asked = {"imgsz": SIDE.get(task, USUAL_SIDE), "conf": 0.25, "iou": 0.7, "rect": False, "device": "cpu"}
    for number in range(FRAMES):
        picture = frame(number, task)
        compare(task, picture, yolo.predict(picture, verbose=False, **asked)[0], model, figures)
    model.close()
    print(f"{task} on {backend}: {figures}")  # noqa: T201 - the figures
    assert figures.boxes >= FRAMES
    assert figures.matched >= 0.99 * figures.boxes
    assert not figures.masks or np.quantile(figures.masks, 0.01) >= 0.95
    assert max(figures.keypoints, default=0) <= 1
    assert max(figures.angles, default=0) <= 1


def compare(task: str, picture: Picture, theirs: Untyped, model: Detector, figures: Figures) -> None:
    answer = model.infer(picture)
    if task == "classify":
        top = top_of(answer, model.names)
        assert isinstance(top, list)
        figures.boxes += 1
        figures.matched += top[0].class_ == theirs.probs.top1
        figures.scores.append(abs(top[0].score - float(theirs.probs.data[top[0].class_])))
        return
    ours = objects_of(answer, model.names)
    found = theirs.obb if task == "obb" else theirs.boxes
    boxes = _hulls(theirs.obb.xyxyxyxy.numpy(), picture) if task == "obb" else found.xyxy.numpy().tolist()
    figures.boxes += max(len(boxes), len(ours))
    free = set(range(len(ours)))
    for number, (box, score, label) in enumerate(zip(boxes, found.conf.tolist(), found.cls.tolist(), strict=True)):
        fits = {
            at: iou((box[0], box[1], box[2], box[3]), ours[at].box)
            for at in free
            if ours[at].class_ == label and abs(ours[at].score - score) <= 0.02
        }
        best = max(fits, key=fits.__getitem__, default=None)
        if best is None or fits[best] < 0.9:
            continue
        free.remove(best)
        figures.matched += 1
        figures.scores.append(abs(ours[best].score - score))
        _compare_more(task, number, theirs, ours[best], figures)


def _compare_more(task: str, number: int, theirs: Untyped, mine: DetectedObject, figures: Figures) -> None:
    if task == "segment":
        assert isinstance(mine.polygons, list)
        mask = theirs.masks.data[number].numpy().astype(np.uint8)
        above = (mask.shape[0] - theirs.orig_shape[0]) // 2  # the frame is as wide as the input
        mask = mask[above : above + theirs.orig_shape[0]]
        drawn = _drawn(mine.polygons, mask.shape)
        figures.masks.append(np.count_nonzero(drawn & mask) / np.count_nonzero(drawn | mask))
    elif task == "pose":
        assert isinstance(mine.keypoints, list)
        wanted = theirs.keypoints.data[number].tolist()
        figures.keypoints += [math.dist(a[:2], b[:2]) for a, b in zip(wanted, mine.keypoints, strict=True)]
    elif task == "obb":
        assert isinstance(mine.angle, float)
        apart = math.remainder(float(theirs.obb.xywhr[number][4]) - mine.angle, math.pi)
        figures.angles.append(abs(math.degrees(apart)))


def _drawn(polygons: list[list[float]], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return the pixels whose centres lie in polygons; drawn finely, because OpenCV fills a border's pixels as well."""
    fine = np.zeros((shape[0] * FINE, shape[1] * FINE), np.uint8)
    for ring in polygons:
        points = np.array(ring, np.float32).reshape(-1, 2) * FINE - 0.5
        cv2.fillPoly(fine, [np.round(points).astype(np.int32)], (1,))
    return fine[FINE // 2 :: FINE, FINE // 2 :: FINE]


def _hulls(corners: NDArray[np.float32], picture: Picture) -> list[list[float]]:
    height, width = picture.shape[:2]
    low, high = corners.min(axis=1), corners.max(axis=1)
    hulls: list[list[float]] = np.clip(np.concatenate((low, high), axis=1), 0, [width, height, width, height]).tolist()
    return hulls
