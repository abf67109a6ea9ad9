"""Score exported models on unseen frames with both CPU runtimes, and write their golden pictures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np
from ultralytics import YOLO

from agent.demo.conveyor import PRODUCTS, Conveyor, Product
from agent.inference.backends import Model, load
from agent.inference.validation.golden import prove
from agent.inference.yolo.detections import objects_of
from agent.messages.references import ModelVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    from agent.messages.payloads import DetectedObject

    Outline: TypeAlias = NDArray[np.floating]

BACKENDS = ("onnxruntime", "openvino")
CONFIDENCE = 0.25
GOLDEN_SEED = 950_000
GOLDEN_PICTURES = 4
_GOLDEN_SIZE = (320, 240)
# A golden object is a sure one, so that another precision cannot move it over the threshold.
_SURE, _DOUBTFUL = 0.6, 0.1
_SAME_IOU = 0.5
_FINER = 4  # outlines are drawn at quarter pixels
_CENTRE_AND_SIZE = 2  # points of a label that is a box


@dataclass(frozen=True)
class Seen:
    """One object of a truth or an answer: its outline in pixels of the picture, (n, 2)."""

    label: str
    score: float
    outline: Outline


@dataclass(frozen=True)
class Found:
    """One runtime's results on the unseen frames at CONFIDENCE: right, wrong and missing objects (IoU 0.5, label)."""

    right: int
    wrong: int
    missing: int


@dataclass(frozen=True)
class Scores:
    """A model's measure on unseen frames; `apart` is the largest difference in score between the runtimes."""

    frames: int
    map50: float
    map50_95: float
    found: dict[str, Found]
    matched: int
    apart: float


def version_of(file: Path, backend: str = "auto", confidence: float = CONFIDENCE) -> ModelVersion:
    """Describe an exported file, MODEL-VARIANT-VERSION.onnx, as the catalog will."""
    name, variant, version = file.stem.rsplit("-", 2)
    digest = sha256(file.read_bytes()).hexdigest()
    classes = _product_of(file).classes
    return ModelVersion(
        name, variant, version, str(file), digest, backend=backend, confidence=confidence, classes=classes
    )


def _product_of(file: Path) -> Product:
    name = file.stem.rsplit("-", 2)[0]
    return next(product for product in PRODUCTS.values() if product.model == name)


def score(file: Path, frames: Path, data: Path, imgsz: int) -> Scores:
    """Measure mAP with ultralytics' own scorer over ONNX Runtime, then compare both runtimes object by object."""
    task = _product_of(file).task
    metrics = YOLO(str(file), task=task).val(data=str(data), imgsz=imgsz, device="cpu", plots=False, workers=0)
    scored = metrics.seg if task == "segment" else metrics.box
    models = [load(version_of(file, backend), "cpu", file.parent) for backend in BACKENDS]
    counts = dict.fromkeys(BACKENDS, Found(0, 0, 0))
    matched, apart, number = 0, 0.0, 0
    for picture, truth in _unseen(frames, models[0].names):
        number += 1
        answers = [[_seen(item) for item in objects_of(model.infer(picture), model.names)] for model in models]
        for backend, answer in zip(BACKENDS, answers, strict=True):
            pairs = len(_pairs(truth, answer))
            old = counts[backend]
            counts[backend] = Found(
                old.right + pairs, old.wrong + len(answer) - pairs, old.missing + len(truth) - pairs
            )
        for one, other in _pairs(answers[0], answers[1]):
            matched, apart = matched + 1, max(apart, abs(one.score - other.score))
    for model in models:
        model.close()
    return Scores(number, float(scored.map50), float(scored.map), counts, matched, apart)


def write_golden(file: Path, product: Product, folder: Path) -> None:
    """Write golden pictures with what the model finds in them; both runtimes must then prove the model on them."""
    folder.mkdir(parents=True, exist_ok=True)
    reader = load(version_of(file, BACKENDS[0]), "cpu", folder)
    doubter = load(version_of(file, BACKENDS[0], confidence=_DOUBTFUL), "cpu", folder)
    for number, data in enumerate(_golden_pictures(doubter, product), start=1):
        (folder / f"{number:02d}.jpg").write_bytes(data)
        answer = objects_of(reader.infer(_decoded(data)), reader.names)
        lines = ",\n".join(json.dumps(msgspec.to_builtins(item)) for item in answer)
        (folder / f"{number:02d}.json").write_text(f'{{"objects": [\n{lines}\n]}}\n')
    for backend in BACKENDS:
        version = msgspec.structs.replace(version_of(file, backend), golden=str(folder))
        prove(load(version, "cpu", folder), version)


def _golden_pictures(doubter: Model, product: Product) -> Iterator[bytes]:
    made = 0
    for seed in range(GOLDEN_SEED, GOLDEN_SEED + 400):
        picture, parts = Conveyor(product.code, seed).render(10.0)
        good, coded = cv2.imencode(".jpg", cv2.resize(picture, _GOLDEN_SIZE), [cv2.IMWRITE_JPEG_QUALITY, 90])
        assert good, "a uint8 picture always encodes"
        data = coded.tobytes()
        answer = objects_of(doubter.infer(_decoded(data)), doubter.names)
        sure = all(item.score > _SURE for item in answer)
        if sure and len({item.label for item in answer}) == len(product.classes) and len(answer) == len(parts):
            yield data
            made += 1
        if made == GOLDEN_PICTURES:
            return
    raise RuntimeError(f"{product.model}: not enough sure golden pictures: train longer")


def _unseen(frames: Path, names: tuple[str, ...]) -> Iterator[tuple[NDArray[np.uint8], list[Seen]]]:
    for image in sorted((frames / "images" / "val").iterdir()):
        picture = _decoded(image.read_bytes())
        high, wide = picture.shape[:2]
        truth = []
        for line in (frames / "labels" / "val" / f"{image.stem}.txt").read_text().splitlines():
            class_id, *numbers = (float(word) for word in line.split())
            outline = np.array(numbers).reshape(-1, 2)
            if len(outline) == _CENTRE_AND_SIZE:
                outline = _corners(*outline)
            truth.append(Seen(names[int(class_id)], 1.0, outline * (wide, high)))
        yield picture, truth


def _corners(middle: Outline, size: Outline) -> Outline:
    return np.array([middle + size * (x, y) for x, y in ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5))])


def _seen(item: DetectedObject) -> Seen:
    """Take what an answer outlines: its largest ring, its corners, or its box."""
    if item.polygons is not msgspec.UNSET:
        rings = [np.array(ring).reshape(-1, 2) for ring in item.polygons]
        return Seen(item.label, item.score, max(rings, key=lambda ring: cv2.contourArea(ring.astype(np.float32))))
    if item.corners is not msgspec.UNSET:
        return Seen(item.label, item.score, np.array(item.corners))
    x1, y1, x2, y2 = item.box
    return Seen(item.label, item.score, np.array(((x1, y1), (x2, y1), (x2, y2), (x1, y2))))


def _pairs(ones: list[Seen], others: list[Seen]) -> list[tuple[Seen, Seen]]:
    left, pairs = list(others), []
    for one in ones:
        best = max((o for o in left if o.label == one.label), key=lambda o: _iou(one.outline, o.outline), default=None)
        if best is not None and _iou(one.outline, best.outline) >= _SAME_IOU:
            left = [other for other in left if other is not best]
            pairs.append((one, best))
    return pairs


def _iou(one: Outline, other: Outline) -> float:
    """Return the overlap of two outlines, drawn at quarter pixels."""
    start = np.minimum(one.min(axis=0), other.min(axis=0))
    wide, high = (np.ceil((np.maximum(one.max(axis=0), other.max(axis=0)) - start) * _FINER) + 1).astype(int)
    drawn = []
    for outline in (one, other):
        mask = np.zeros((high, wide), np.uint8)
        cv2.fillPoly(mask, [((outline - start) * _FINER).round().astype(np.int32)], (1,))
        drawn.append(mask > 0)
    return float((drawn[0] & drawn[1]).sum() / max(1, (drawn[0] | drawn[1]).sum()))


def _decoded(data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, "written by this very script"
    return np.asarray(picture, np.uint8)
