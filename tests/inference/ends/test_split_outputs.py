"""Files of exporters that split the output: both runtimes find what the exporter's own words say, at the right pixels.

What is expected is worked out here from each exporter's description: where its boxes are, and what its pixels become.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from support.split_models import PROBED, SIDE, Given, Taken, write

from agent.inference import backends
from agent.inference.artifacts.artifact_store import Opened
from agent.inference.yolo.detections import objects_of
from agent.messages.errors import ModelError
from agent.messages.payloads import DetectedObject
from agent.messages.references import ModelVersion, Preprocess

VersionOf = Callable[..., ModelVersion]
RUNTIMES = ("openvino", "onnxruntime")
NAMES = ("cap", "no-cap", "ring")
WIDE, HIGH = 80, 40
BGR = (30, 90, 200)
QUERIES, CELLS = 300, 84
IMAGENET_RED = (0.485, 0.229)
GAIN, TOP = 0.8, 16
"""Of a letterbox of 80 x 40 in 64 x 64: scaled to 64 x 32, 16 rows of grey above."""

# Two objects, as shares of the picture: corners, and the same as centre and size.
CORNERS = np.array([(0.25, 0.25, 0.5, 0.75), (0.5, 0.1, 0.9, 0.6)])
MIDDLES = np.array([(0.375, 0.5, 0.25, 0.5), (0.7, 0.35, 0.4, 0.5)])
IN_PICTURE = [(20, 10, 40, 30), (40, 4, 72, 24)]
# The same two in pixels of a letterboxed input.
IN_INPUT = np.array([(16, 24, 32, 40), (32, 19.2, 57.6, 35.2)])


@dataclass(frozen=True)
class Case:
    """A file, and what it should find: a box in pixels of the picture, the label, and the score of each object."""

    taken: Taken
    given: dict[str, Given]
    first_score: float
    layout: str = ""
    classes: tuple[str, ...] = NAMES
    metadata: dict[str, str] = field(default_factory=dict)


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def sigmoid(number: float) -> float:
    return float(1 / (1 + np.exp(-number)))


def filled(shape: tuple[int, ...], first: NDArray[np.floating], rest: float = 0.0) -> NDArray[np.floating]:
    """Return an array of `rest`, whose first rows are `first`."""
    numbers = np.full(shape, rest)
    numbers[0, : len(first)] = first
    return numbers


def classed(shape: tuple[int, ...], high: float, rest: float) -> NDArray[np.floating]:
    """Return a number a class: object 0 is probed in class 2, object 1 has `high` in class 0."""
    numbers = np.full(shape, rest)
    numbers[0, 0, 2], numbers[0, 1, 0] = PROBED[0], high
    return numbers


RED, BLUE = BGR[2] / 255, BGR[0] / 255
PLAIN = PROBED[0] + PROBED[1] * RED
NORMED = PROBED[0] + PROBED[1] * (RED - IMAGENET_RED[0]) / IMAGENET_RED[1]
HALF_GREY = (RED * 32 + 114 / 255 * 32) / 64
"""Mean of red in a letterboxed input, half of which is grey."""
BOXED = PROBED[0] + PROBED[1] * HALF_GREY
BESIDE = {"orig_target_sizes": ("N", 2)}


def sized(**options: object) -> Case:
    """Return what RT-DETR and D-FINE export by themselves: int64 labels, corners in pixels of orig_target_sizes."""
    given = {
        "labels": Given(filled((1, QUERIES), np.array([2, 0])), is_whole=True),
        "boxes": Given(filled((1, QUERIES, 4), CORNERS), is_scaled=True),
        "scores": Given(filled((1, QUERIES), np.array([PROBED[0], 0.6])), probe=0),
    }
    return Case(Taken("images", beside=BESIDE, **options), given, PLAIN)  # type: ignore[arg-type]


def logits() -> dict[str, Given]:
    shape = (1, QUERIES, len(NAMES))
    return {
        "logits": Given(classed(shape, logit(0.6), -9.0), probe=2),
        "pred_boxes": Given(filled((1, QUERIES, 4), MIDDLES, 0.1)),
    }


def softmaxed() -> dict[str, Given]:
    """Return DETR's own outputs: the last column is none, and each row's shares add up to 1."""
    numbers = np.full((1, 100, 4), -9.0)
    numbers[0, :, 3] = 9.0
    numbers[0, 0] = (-9, -9, 1.0, -9)
    numbers[0, 1] = (logit(0.6), -9, -9, 0)
    boxes = filled((1, 100, 4), MIDDLES, 0.1)
    return {"logits": Given(numbers), "pred_boxes": Given(boxes)}


def dense() -> Case:
    """YOLO-NAS without suppression: the cells that found nothing have boxes all over the input."""
    at = np.arange(CELLS)[:, np.newaxis] * 0.6
    boxes = np.concatenate((at, at, at + 8, at + 8), axis=1)
    given = {
        "pred_bboxes": Given(filled((1, CELLS, 4), np.concatenate((IN_INPUT, boxes[2:])))),
        "pred_scores": Given(classed((1, CELLS, 3), 0.6, 0.0), probe=2),
    }
    return Case(Taken("input"), given, BOXED)


def counted() -> Case:
    """YOLO-NAS with suppression, batch: what is behind the count is -1."""
    given = {
        "num_predictions": Given(np.array([[2]]), is_whole=True),
        "pred_boxes": Given(filled((1, 50, 4), IN_INPUT, -1.0)),
        "pred_scores": Given(filled((1, 50), np.array([PROBED[0], 0.6]), -1.0), probe=0),
        "pred_classes": Given(filled((1, 50), np.array([2, 0]), -1.0), is_whole=True),
    }
    return Case(Taken("input", TensorProto.UINT8), given, BOXED)


def flat(name: str, *, class_first: bool, layout: str = "") -> Case:
    scores = (PROBED[0], 0.6)
    tails = [(2, scores[0]), (0, scores[1])] if class_first else [(scores[0], 2), (scores[1], 0)]
    rows = np.array([(0, *box, *tail) for box, tail in zip(IN_INPUT, tails, strict=True)])
    return Case(Taken("input", rows="found"), {name: Given(rows, probe=6 if class_first else 5)}, BOXED, layout)


def yolox() -> Case:
    """YOLOX with decode_in_inference: pixels from 0 to 255, blue first, in the upper left corner."""
    rows = np.zeros((1, CELLS, 8))
    rows[0, :, :2] = np.linspace(4, 60, CELLS)[:, np.newaxis]
    rows[0, :, 2:4] = 8
    corners = IN_INPUT - (0, TOP, 0, TOP)
    rows[0, :2, :4] = np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), axis=1)
    rows[0, 0, 4:], rows[0, 1, 4:] = (1.0, 0, 0, 0.5), (1.0, 0.6, 0, 0)
    return Case(Taken("images"), {"output": Given(rows)}, 0.5, "yolox-decoded")


CASES = {
    "rt-detr itself": sized(),
    "d-fine itself, open batch": sized(sides=("N", 3, SIDE, SIDE)),
    "transformers": Case(Taken("pixel_values"), logits(), sigmoid(PLAIN)),
    "transformers by optimum, all open": Case(
        Taken("pixel_values", sides=("batch_size", "num_channels", "height", "width"), rows="num_queries"),
        logits(),
        sigmoid(PLAIN),
    ),
    "rf-detr": Case(
        Taken("input"),
        {"dets": logits()["pred_boxes"], "labels": logits()["logits"]},
        sigmoid(NORMED),
    ),
    "detr": Case(
        Taken("pixel_values", beside={"pixel_mask": (1, SIDE, SIDE)}),
        softmaxed(),
        float(np.exp(1) / (np.exp(1) + 3 * np.exp(-9))),
    ),
    "yolo-nas without suppression": dense(),
    "yolo-nas, batch": counted(),
    "yolo-nas, flat": flat("graph2_flat_predictions", class_first=False),
    "yolov7 with suppression": flat("output", class_first=True, layout="v7-flat"),
    "yolox, decoded": yolox(),
}


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    return np.full((HIGH, WIDE, 3), BGR, np.uint8)


def entry(case: Case, version: VersionOf, path: Path, **options: object) -> ModelVersion:
    write(path, case.taken, case.given, case.metadata)
    said = {"classes": case.classes, "layout": case.layout, "imgsz": SIDE, "confidence": 0.2}
    return version(path, **(said | options))


def objects(version: ModelVersion, picture: NDArray[np.uint8]) -> list[DetectedObject]:
    model = backends.load(version, "cpu", Path(version.path).parent)
    try:
        return objects_of(model.check_outputs(picture), model.names)
    finally:
        model.close()


def by_label(found: list[DetectedObject]) -> list[DetectedObject]:
    return sorted(found, key=lambda one: one.label, reverse=True)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", CASES)
def test_each_exporter_is_answered_as_it_says(
    name: str, runtime: str, version: VersionOf, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    case = CASES[name]
    found = by_label(objects(entry(case, version, tmp_path / "split.onnx", backend=runtime), picture))
    assert [one.label for one in found] == ["ring", "cap"]
    for one, box in zip(found, IN_PICTURE, strict=True):
        np.testing.assert_allclose(one.box, box, atol=0.51)
    assert found[1].score == pytest.approx(0.6, abs=1e-3)
    assert found[0].score == pytest.approx(case.first_score, abs=2e-3)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["rt-detr itself", "rf-detr", "yolo-nas, batch"])
def test_what_is_prepared_answers_as_the_file_does(
    name: str, runtime: str, version: VersionOf, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    source = entry(CASES[name], version, tmp_path / "split.onnx", backend=runtime)
    (tmp_path / "made").mkdir()
    made = backends.make(source, "cpu", tmp_path / "made")
    model = backends.restore(source, Opened.made(tmp_path / "made", made), "cpu", tmp_path)
    try:
        found = by_label(objects_of(model.check_outputs(picture), model.names))
    finally:
        model.close()
    for one, other in zip(found, by_label(objects(source, picture)), strict=True):
        assert one.label == other.label
        np.testing.assert_allclose((*one.box, one.score), (*other.box, other.score), atol=0.05)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize(
    ("said", "first_score"),
    [
        (Preprocess(colours="bgr"), PROBED[0] + PROBED[1] * BLUE),
        (Preprocess(scale=1 / 510), PROBED[0] + PROBED[1] * RED / 2),
        (Preprocess(mean=(0.5, 0, 0)), PROBED[0] + PROBED[1] * (RED - 0.5)),
        (Preprocess(std=(0.5, 1, 1)), PROBED[0] + PROBED[1] * RED / 0.5),
        (Preprocess(resize="letterbox"), BOXED),
        (Preprocess(resize="corner"), BOXED),
    ],
    ids=["colours", "scale", "mean", "std", "letterbox", "corner"],
)
def test_the_catalogs_preprocessing_goes_before_the_layouts(  # noqa: PLR0913, PLR0917 - what a case needs
    said: Preprocess, first_score: float, runtime: str, version: VersionOf, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    case = CASES["rt-detr itself"]
    found = by_label(objects(entry(case, version, tmp_path / "m.onnx", backend=runtime, preprocess=said), picture))
    assert found[0].score == pytest.approx(first_score, abs=2e-3)
    box = {"": IN_PICTURE[0], "letterbox": (20, 0, 40, 40), "corner": (20, 20, 40, 40)}[said.resize]
    np.testing.assert_allclose(found[0].box, box, atol=0.51)


def refused(case: Case, version: VersionOf, path: Path, runtime: str, **options: object) -> ModelError:
    with pytest.raises(ModelError) as error:
        backends.load(entry(case, version, path, backend=runtime, **options), "cpu", path.parent)
    return error.value


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_could_be_two_is_refused_with_both_named(runtime: str, version: VersionOf, tmp_path: Path) -> None:
    silent = {"a": logits()["logits"], "b": logits()["pred_boxes"]}
    error = refused(Case(Taken("x"), silent, 0), version, tmp_path / "m.onnx", runtime)
    assert error.reason == "unclear_layout"
    assert '"rtdetr-logits"' in str(error)
    assert '"rfdetr"' in str(error)
    error = refused(flat("output", class_first=False), version, tmp_path / "m.onnx", runtime)
    assert error.reason == "unclear_layout"
    assert '"yolonas-flat"' in str(error)
    assert '"v7-flat"' in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_no_picture_and_known_size_is_is_refused_by_its_name(
    runtime: str, version: VersionOf, tmp_path: Path
) -> None:
    taken = Taken("image", beside={"im_shape": ("N", 2), "scale_factor": ("N", 2)})
    error = refused(Case(taken, logits(), 0), version, tmp_path / "m.onnx", runtime)
    assert error.reason == "load_failed"
    assert "im_shape" in str(error)
    error = refused(sized(sides=(4, 3, SIDE, SIDE)), version, tmp_path / "m.onnx", runtime)
    assert "4 pictures at once" in str(error)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_column_without_a_name_is_refused_with_the_cure(runtime: str, version: VersionOf, tmp_path: Path) -> None:
    error = refused(CASES["rf-detr"], version, tmp_path / "m.onnx", runtime, classes=("cap", "no-cap"))
    assert error.reason == "proof_failed"
    assert "name the class of each column" in str(error)
