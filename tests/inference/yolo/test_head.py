"""Known objects, drawn into a raw output of each layout, come back as they were."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.inference.yolo.head import Head, Layout
from agent.inference.yolo.letterbox import Placement
from agent.inference.yolo.metadata import RTDETR, FileFacts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

PICTURE = (480, 640)
PLACEMENT = Placement.of(PICTURE, (320, 320))
BOXES = np.array([[10, 20, 110, 220], [300, 200, 630, 470], [12, 21, 111, 221]], np.float32)
SCORES = np.array([0.9, 0.8, 0.6], np.float32)
CLASSES = np.array([0, 2, 1], np.int32)
NAMES = ("bottle", "can", "tray")
FACTS = FileFacts(names=NAMES, task="detect")
END_TO_END = FileFacts(names=NAMES, task="detect", end2end=True)
IMGSZ = (320, 320)

VersionOf = Callable[..., ModelVersion]


def head_of(entry: ModelVersion, facts: FileFacts, shape: Sequence[int]) -> Head:
    return Head.of(entry, facts, (shape,), IMGSZ)


def in_input() -> NDArray[np.float32]:
    shift = np.array([PLACEMENT.left, PLACEMENT.top] * 2, np.float32)
    boxes: NDArray[np.float32] = BOXES * np.float32(PLACEMENT.gain) + shift
    return boxes


def facts_of(raw: NDArray[np.float32]) -> FileFacts:
    return END_TO_END if raw.shape[-1] == 6 else FACTS


def anchors_output() -> NDArray[np.float32]:
    raw = np.zeros((1, 7, 2100), np.float32)
    boxes = in_input()
    columns = [1999, 3, 700]
    raw[0, :2, columns] = (boxes[:, :2] + boxes[:, 2:]) / 2
    raw[0, 2:4, columns] = boxes[:, 2:] - boxes[:, :2]
    raw[0, 4 + CLASSES, columns] = SCORES
    raw[0, 4:, 5] = 0.25  # not above the threshold
    return raw


def rows_output() -> NDArray[np.float32]:
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, [0, 1, 2]] = np.column_stack((in_input(), SCORES, CLASSES))
    raw[0, 3, 4] = 0.25
    return raw


def objectness_output() -> NDArray[np.float32]:
    raw = np.zeros((1, 6300, 8), np.float32)
    boxes = in_input()
    rows = [1999, 3, 700]
    raw[0, rows, :2] = (boxes[:, :2] + boxes[:, 2:]) / 2
    raw[0, rows, 2:4] = boxes[:, 2:] - boxes[:, :2]
    raw[0, rows, 4] = SCORES / 0.95
    raw[0, rows, 5 + CLASSES] = 0.95
    raw[0, 5, 4:] = 0.4  # each above the threshold, their product is not
    return raw


def shares() -> NDArray[np.float32]:
    """Centres and sizes in shares of the picture."""
    corners = BOXES / np.array([PICTURE[1], PICTURE[0]] * 2, np.float32)
    centres_and_sizes = ((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2])
    return np.concatenate(centres_and_sizes, axis=1).astype(np.float32)


def queries_output() -> NDArray[np.float32]:
    raw = np.zeros((1, 300, 7), np.float32)
    rows = [200, 3, 70]
    raw[0, rows, :4] = shares()
    raw[0, rows, 4 + CLASSES] = SCORES
    raw[0, 5, 4:] = 0.25
    return raw


def query_rows_output() -> NDArray[np.float32]:
    raw = np.zeros((1, 300, 6), np.float32)
    raw[0, [0, 1, 2]] = np.column_stack((shares(), SCORES, CLASSES))
    return raw


RT_DETR = FileFacts(names=NAMES, task="detect", end2end=False, head="RTDETRDecoder", family=RTDETR)


@pytest.mark.parametrize(
    ("raw", "facts", "layout"),
    [
        (objectness_output(), FACTS, Layout.OBJECTNESS),
        (queries_output(), FACTS, Layout.QUERIES),
        (query_rows_output(), RT_DETR, Layout.QUERY_ROWS),
    ],
    ids=["v5", "rt-detr", "rt-detr-rows"],
)
def test_objects_of_other_heads_come_back(
    entry: ModelVersion, raw: NDArray[np.float32], facts: FileFacts, layout: Layout
) -> None:
    head = head_of(entry, facts, raw.shape)
    assert head.layout is layout
    placement = Placement.of(PICTURE, IMGSZ, head.fit)
    objects = head.decode((raw,), placement)
    np.testing.assert_allclose(objects.boxes, BOXES, atol=1e-3)
    np.testing.assert_allclose(objects.scores, SCORES, atol=1e-5)
    assert objects.classes.tolist() == CLASSES.tolist()
    assert len(head.decode((np.zeros_like(raw),), placement)) == 0
    bad = raw.copy()
    bad[0, np.flatnonzero(raw[0, :, 4] > 0.3)[0], :5] = np.nan
    with pytest.raises(ModelError, match="NaN or infinity"):
        head.decode((bad,), placement)


@pytest.fixture
def entry(version: VersionOf) -> ModelVersion:
    return version(Path("unused.onnx"))


@pytest.mark.parametrize(
    ("raw", "layout"), [(anchors_output(), Layout.ANCHORS), (rows_output(), Layout.END_TO_END)], ids=["v8", "v26"]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_objects_come_back(
    entry: ModelVersion, raw: NDArray[np.float32], layout: Layout, dtype: type[np.floating]
) -> None:
    head = head_of(entry, facts_of(raw), raw.shape)
    assert head.layout is layout
    objects = head.decode((raw.astype(dtype),), PLACEMENT)
    tolerance = 0.5 if dtype is np.float16 else 1e-3
    np.testing.assert_allclose(objects.boxes, BOXES, atol=tolerance)
    np.testing.assert_allclose(objects.scores, SCORES, atol=1e-3)
    assert objects.classes.tolist() == CLASSES.tolist()
    assert [array.dtype for array in (objects.boxes, objects.scores, objects.classes)] == ["f4", "f4", "i4"]


@pytest.mark.parametrize("raw", [anchors_output(), rows_output()], ids=["v8", "v26"])
def test_nothing_found_is_empty(entry: ModelVersion, raw: NDArray[np.float32]) -> None:
    objects = head_of(entry, facts_of(raw), raw.shape).decode((np.zeros_like(raw),), PLACEMENT)
    assert len(objects) == 0
    assert objects.boxes.shape == (0, 4)


@pytest.mark.parametrize("raw", [anchors_output(), rows_output()], ids=["v8", "v26"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_candidate_that_is_no_number_is_refused(entry: ModelVersion, raw: NDArray[np.float32], value: float) -> None:
    for place in ((0, slice(4)), (0, 4)):  # boxes, scores; or whole rows
        refuse_with(entry, raw, place, value)


def refuse_with(entry: ModelVersion, raw: NDArray[np.float32], place: tuple[int, int | slice], value: float) -> None:
    bad = raw.copy()
    bad[place] = value
    with pytest.raises(ModelError, match="NaN or infinity among the candidates") as refused:
        head_of(entry, facts_of(raw), raw.shape).decode((bad,), PLACEMENT)
    assert refused.value.reason == "proof_failed"


def test_the_proof_looks_at_every_number(entry: ModelVersion) -> None:
    raw = anchors_output()
    head = head_of(entry, FACTS, raw.shape)
    head.require_right((raw,))
    raw[0, 0, 10] = np.nan
    head.decode((raw,), PLACEMENT)
    with pytest.raises(ModelError, match="1 of 14700 numbers"):
        head.require_right((raw,))


def test_a_class_without_a_name_is_refused(entry: ModelVersion) -> None:
    raw = rows_output()
    raw[0, 0, 5] = 3
    with pytest.raises(ModelError, match="answered class 3 of 3"):
        head_of(entry, END_TO_END, raw.shape).decode((raw,), PLACEMENT)


def test_an_output_of_another_shape_is_refused(entry: ModelVersion) -> None:
    head = head_of(entry, FACTS, (1, 7, 2100))
    with pytest.raises(ModelError, match="expected"):
        head.decode((np.zeros((1, 7, 2099), np.float32),), PLACEMENT)


@pytest.mark.parametrize("shape", [(1, 8, 2100), (1, 2100, 7), (1, 300, 8), (1, 7), (2, 7, 2100), (1, 7, 20, 20)])
def test_a_shape_that_is_no_detection_head_is_refused(entry: ModelVersion, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="the output is") as refused:
        head_of(entry, FACTS, shape)
    assert refused.value.reason == "proof_failed"


def test_the_catalog_names_the_classes(version: VersionOf) -> None:
    mine = version(Path("unused.onnx"), classes=("one", "two", "three"))
    assert head_of(mine, FACTS, (1, 7, 2100)).names == ("one", "two", "three")
    assert head_of(mine, FileFacts(end2end=True), (1, 300, 6)).names == ("one", "two", "three")


def test_another_count_of_names_is_refused(version: VersionOf) -> None:
    mine = version(Path("unused.onnx"), classes=("one", "two"))
    with pytest.raises(ModelError, match="the catalog names 2 classes, the file 3") as refused:
        head_of(mine, FACTS, (1, 7, 2100))
    assert refused.value.reason == "proof_failed"
    with pytest.raises(ModelError, match="with 2 class names"):
        head_of(mine, FileFacts(), (1, 7, 2100))


@pytest.mark.parametrize("shape", [(1, 7, 2100), (1, 300, 6), (1, 56, 2100)])
def test_a_file_that_names_no_classes_is_refused(entry: ModelVersion, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="give `classes` in the catalog") as refused:
        head_of(entry, FileFacts(), shape)
    assert refused.value.reason == "load_failed"


def test_another_task_is_refused(entry: ModelVersion) -> None:
    with pytest.raises(ModelError, match="a depth model; served are detect, segment") as refused:
        head_of(entry, FileFacts(names=NAMES, task="depth"), (1, 1, 320, 320))
    assert refused.value.reason == "load_failed"


def test_the_confidence_of_the_catalog_holds(version: VersionOf) -> None:
    strict = version(Path("unused.onnx"), confidence=0.7)
    for raw in (anchors_output(), rows_output()):
        assert (
            head_of(strict, facts_of(raw), raw.shape).decode((raw,), PLACEMENT).scores.tolist() == SCORES[:2].tolist()
        )
