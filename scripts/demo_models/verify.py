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

    from numpy.typing import NDArray

    from agent.messages.payloads import DetectedObject

BACKENDS = ("onnxruntime", "openvino")
CONFIDENCE = 0.25
GOLDEN_SEED = 950_000
GOLDEN_PICTURES = 4
_GOLDEN_SIZE = (320, 240)
# A golden object is a sure one, so that another precision cannot move it over the threshold.
_SURE, _DOUBTFUL = 0.6, 0.1
_SAME_IOU = 0.5


@dataclass(frozen=True)
class Found:
    """What one runtime made of the unseen frames at CONFIDENCE: right, wrong and missing objects (IoU 0.5, label)."""

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
    classes = next(product.classes for product in PRODUCTS.values() if product.model == name)
    return ModelVersion(
        name, variant, version, str(file), digest, backend=backend, confidence=confidence, classes=classes
    )


def score(file: Path, frames: Path, data: Path, imgsz: int) -> Scores:
    """Measure mAP with ultralytics' own scorer over ONNX Runtime, then compare both runtimes object by object."""
    metrics = YOLO(str(file), task="detect").val(data=str(data), imgsz=imgsz, device="cpu", plots=False, workers=0)
    models = [load(version_of(file, backend), "cpu", file.parent) for backend in BACKENDS]
    counts = dict.fromkeys(BACKENDS, Found(0, 0, 0))
    matched, apart, number = 0, 0.0, 0
    for picture, truth in _unseen(frames, models[0].names):
        number += 1
        answers = [objects_of(model.infer(picture), model.names) for model in models]
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
    return Scores(number, float(metrics.box.map50), float(metrics.box.map), counts, matched, apart)


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


def _unseen(frames: Path, names: tuple[str, ...]) -> Iterator[tuple[NDArray[np.uint8], list[DetectedObject]]]:
    from agent.messages.payloads import DetectedObject  # noqa: PLC0415 - only here is one made

    for image in sorted((frames / "images" / "val").iterdir()):
        picture = _decoded(image.read_bytes())
        high, wide = picture.shape[:2]
        truth = []
        for line in (frames / "labels" / "val" / f"{image.stem}.txt").read_text().splitlines():
            class_id, x, y, w, h = (float(word) for word in line.split())
            box = ((x - w / 2) * wide, (y - h / 2) * high, (x + w / 2) * wide, (y + h / 2) * high)
            truth.append(DetectedObject(label=names[int(class_id)], class_=int(class_id), score=1.0, box=box))
        yield picture, truth


def _pairs(ones: list[DetectedObject], others: list[DetectedObject]) -> list[tuple[DetectedObject, DetectedObject]]:
    left, pairs = list(others), []
    for one in ones:
        best = max((o for o in left if o.label == one.label), key=lambda o: _iou(one.box, o.box), default=None)
        if best is not None and _iou(one.box, best.box) >= _SAME_IOU:
            left.remove(best)
            pairs.append((one, best))
    return pairs


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    wide = max(0.0, min(one[2], other[2]) - max(one[0], other[0]))
    high = max(0.0, min(one[3], other[3]) - max(one[1], other[1]))
    areas = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1])
    return wide * high / (areas - wide * high) if wide * high else 0.0


def _decoded(data: bytes) -> NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, "written by this very script"
    return np.asarray(picture, np.uint8)
