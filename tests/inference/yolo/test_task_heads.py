"""Known masks, keypoints, turned boxes and classes, drawn into a raw output of each layout, come back as they were."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.inference.validation.outlines import masks_iou
from agent.inference.yolo.declared import prepared_reading
from agent.inference.yolo.detections import objects_of, top_of
from agent.inference.yolo.head import Head, Layout
from agent.inference.yolo.letterbox import Fit, Placement
from agent.inference.yolo.metadata import FileFacts, read_facts
from agent.inference.yolo.objects import Objects
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

Array = NDArray[np.float32]
VersionOf = Callable[..., ModelVersion]

PICTURE: Final = (480, 640)
IMGSZ: Final = (320, 320)
PLACEMENT: Final = Placement.of(PICTURE, IMGSZ)  # half the size, 40 rows of grey above
CELLS: Final = 2100
NAMES: Final = ("bottle", "can", "tray")
SCORES: Final = (0.9, 0.8)
CLASSES: Final = (0, 2)
CENTRES: Final = np.array([[60, 100, 80, 60], [220, 200, 100, 120]], np.float32)  # in pixels of the input
ULTRALYTICS: Final = "Ultralytics YOLO11n model"
POINTS: Final = np.array(
    [[[40, 90, 0.9], [80, 110, 0.4]], [[200, 180, 0.8], [240, 230, 0.7]]], np.float32
)  # in pixels of the input
ANGLES: Final = np.array([math.pi / 6, -math.pi / 5], np.float32)


def columns(extras: Array) -> Array:
    """Return v8's (1, 4 + classes + extras, cells) with both objects."""
    raw = np.zeros((1, 7 + extras.shape[1], CELLS), np.float32)
    for at, number in enumerate((1999, 3)):
        raw[0, :4, number] = CENTRES[at]
        raw[0, 4 + CLASSES[at], number] = SCORES[at]
        raw[0, 7:, number] = extras[at]
    return raw


def objectness(extras: Array) -> Array:
    """Return v5's (1, anchors, 5 + classes + extras)."""
    raw = np.zeros((1, 3 * CELLS, 8 + extras.shape[1]), np.float32)
    for at, number in enumerate((5000, 3)):
        raw[0, number, :4] = CENTRES[at]
        raw[0, number, 4] = SCORES[at]
        raw[0, number, 5 + CLASSES[at]] = 1
        raw[0, number, 8:] = extras[at]
    return raw


def rows(extras: Array, *, corners: bool = True) -> Array:
    """Return 26's (1, 300, 6 + extras)."""
    raw = np.zeros((1, 300, 6 + extras.shape[1]), np.float32)
    half = CENTRES[:, 2:] / 2
    boxes = np.concatenate((CENTRES[:, :2] - half, CENTRES[:, :2] + half), axis=1) if corners else CENTRES
    raw[0, :2] = np.column_stack((boxes, SCORES, CLASSES, extras))
    return raw


def prototypes() -> Array:
    """Return (1, 3, 80, 80): a disc about each object's centre, and a prototype that nobody uses."""
    ys, xs = np.mgrid[:80, :80] * 4 + 2
    discs = [1 - np.hypot(xs - x, ys - y) / 25 for x, y, *_ in CENTRES]
    return np.stack([*discs, np.ones_like(discs[0])])[np.newaxis].astype(np.float32)


SHARES: Final = np.array([[3, 0, 0], [0, 3, 0]], np.float32)
SAID: Final = {"names": repr(dict(enumerate(NAMES))), "description": ULTRALYTICS}
V5: Final = {"names": repr(dict(enumerate(NAMES))), "stride": "32"}


def facts(said: dict[str, str], **more: str) -> FileFacts:
    return read_facts(said | more)


def decoded(entry: ModelVersion, known: FileFacts, *raw: Array) -> tuple[Head, Objects]:
    head = Head.of(entry, known, [one.shape for one in raw], IMGSZ)
    read = tuple(raw[number] for number in head.outputs)
    head.require_right(read)
    return head, head.decode(read, PLACEMENT)


@pytest.fixture
def entry(version: VersionOf) -> ModelVersion:
    return version(Path("unused.onnx"))


SEGMENTERS = [
    (columns(SHARES), SAID | {"task": "segment"}, Layout.MASKS),
    (objectness(SHARES), V5, Layout.OBJECTNESS_MASKS),
    (rows(SHARES), SAID | {"task": "segment", "end2end": "True"}, Layout.MASK_ROWS),
]


@pytest.mark.parametrize(("raw", "said", "layout"), SEGMENTERS, ids=["v8", "v5", "v26"])
@pytest.mark.parametrize("swapped", [False, True], ids=["", "masks-first"])
def test_masks_come_back(
    entry: ModelVersion, raw: Array, said: dict[str, str], layout: Layout, *, swapped: bool
) -> None:
    outputs = (prototypes(), raw) if swapped else (raw, prototypes())
    head, found = decoded(entry, facts(said), *outputs)
    assert (head.layout, head.task) == (layout, "segment")
    np.testing.assert_allclose(found.scores, SCORES, atol=1e-5)
    objects = objects_of(found, NAMES)
    for item, (x, y, *_) in zip(objects, CENTRES, strict=True):
        assert isinstance(item.polygons, list)
        (ring,) = item.polygons
        turns = np.linspace(0, 2 * math.pi, 400, endpoint=False)
        disc = np.stack((np.cos(turns), np.sin(turns)), axis=1) * 50 + ((x - 0) * 2, (y - 40) * 2)
        assert masks_iou([ring], [disc.ravel().tolist()]) > 0.97
        assert len(ring) <= 128
        left, top, right, bottom = item.box
        assert left - 0.1 <= min(ring[::2]) <= max(ring[::2]) <= right + 0.1
        assert top - 0.1 <= min(ring[1::2]) <= max(ring[1::2]) <= bottom + 0.1


@pytest.mark.parametrize(
    ("raw", "layout"),
    [(columns(POINTS.reshape(2, -1)), Layout.POINTS), (rows(POINTS.reshape(2, -1)), Layout.POINT_ROWS)],
    ids=["v8", "v26"],
)
def test_keypoints_come_back(entry: ModelVersion, raw: Array, layout: Layout) -> None:
    said = facts(
        SAID, task="pose", kpt_shape="[2, 3]", kpt_names="{0: ['cap', 'base']}", end2end=str(raw.shape[2] < 300)
    )
    head, found = decoded(entry, said, raw)
    assert (head.layout, head.reading.keypoints) == (layout, ("cap", "base"))
    assert found.keypoints is not None
    np.testing.assert_allclose(found.keypoints[..., :2], (POINTS[..., :2] - (0, 40)) * 2, atol=1e-3)
    np.testing.assert_allclose(found.keypoints[..., 2], POINTS[..., 2], atol=1e-5)
    assert objects_of(found, NAMES)[0].keypoints == [(80.0, 100.0, 0.9), (160.0, 140.0, 0.4)]


@pytest.mark.parametrize("named", ["{0: ['cap', 'base', 'rim']}", "{0: ['cap', 'base']}", "{}"])
def test_the_names_of_keypoints_are_told_as_they_are_served(entry: ModelVersion, named: str) -> None:
    raw = columns(POINTS.reshape(2, -1))
    said = facts(SAID, task="pose", kpt_shape="[2, 3]", kpt_names=named)
    served = Head.of(entry, said, [raw.shape], IMGSZ).reading
    assert prepared_reading(entry, said, [raw.shape], IMGSZ) == served
    assert served.keypoints == (("cap", "base") if named.count(",") == 1 else ())


def test_keypoints_without_scores_have_score_one(entry: ModelVersion) -> None:
    said = facts(SAID, task="pose", kpt_shape="[2, 2]")
    _, found = decoded(entry, said, columns(POINTS[..., :2].reshape(2, -1)))
    assert objects_of(found, NAMES)[0].keypoints == [(80.0, 100.0, 1.0), (160.0, 140.0, 1.0)]


def test_keypoints_that_could_be_of_two_or_three_numbers_are_refused(entry: ModelVersion) -> None:
    raw = columns(POINTS.reshape(2, -1))
    with pytest.raises(ModelError, match="3 keypoints of 2 or 2 keypoints of 3") as refused:
        Head.of(entry, facts(SAID, task="pose"), [raw.shape], IMGSZ)
    assert refused.value.reason == "unclear_layout"


@pytest.mark.parametrize(
    ("raw", "layout"),
    [(columns(ANGLES[:, np.newaxis]), Layout.TURNED), (rows(ANGLES[:, np.newaxis], corners=False), Layout.TURNED_ROWS)],
    ids=["v8", "v26"],
)
def test_turned_boxes_come_back(entry: ModelVersion, raw: Array, layout: Layout) -> None:
    head, found = decoded(entry, facts(SAID, task="obb", end2end=str(raw.shape[2] < 300)), raw)
    assert head.layout is layout
    first = objects_of(found, NAMES)[0]
    assert first.angle == pytest.approx(math.pi / 6, abs=1e-3)
    assert isinstance(first.corners, tuple)
    (x1, y1), (x2, y2), (x3, y3), _ = first.corners
    assert math.degrees(math.atan2(y2 - y1, x2 - x1)) == pytest.approx(30, abs=0.1)  # y goes down: clockwise
    assert (math.dist((x1, y1), (x2, y2)), math.dist((x2, y2), (x3, y3))) == pytest.approx((160, 120), abs=0.2)
    assert first.box[0] == pytest.approx(min(x for x, _ in first.corners), abs=0.1)
    assert first.box[1] == max(0.0, first.box[1])
    second = objects_of(found, NAMES)[1]
    assert second.angle == pytest.approx(-math.pi / 5, abs=1e-3)


@pytest.mark.parametrize(
    ("raw", "said", "layout", "scores"),
    [
        ([[0.1, 0.7, 0.2]], SAID | {"task": "classify"}, Layout.WORDS, (0.7, 0.2, 0.1)),
        ([[0.0, math.log(7), math.log(2)]], V5, Layout.LOGITS, (0.7, 0.2, 0.1)),
    ],
    ids=["v8", "v5"],
)
def test_classes_come_back(
    entry: ModelVersion, raw: list[list[float]], said: dict[str, str], layout: Layout, scores: tuple[float, ...]
) -> None:
    head, found = decoded(entry, facts(said), np.array(raw, np.float32))
    assert (head.layout, head.fit, len(found)) == (layout, Fit.COVERING, 0)
    assert objects_of(found, NAMES) == []
    top = top_of(found, NAMES)
    assert isinstance(top, list)
    assert [item.label for item in top] == ["can", "tray", "bottle"]
    assert [item.score for item in top] == pytest.approx(scores, abs=1e-3)


def test_a_silent_classifier_could_be_two(entry: ModelVersion, version: VersionOf) -> None:
    with pytest.raises(ModelError, match=r'"v8" \(1, classes\).* or "v5" \(1, classes\)') as refused:
        Head.of(version(Path("unused.onnx"), classes=NAMES), FileFacts(), [(1, 3)], IMGSZ)
    assert refused.value.reason == "unclear_layout"
    named = version(Path("unused.onnx"), classes=NAMES, layout="v5")
    assert Head.of(named, FileFacts(), [(1, 3)], IMGSZ).layout is Layout.LOGITS
    assert entry.layout == ""


def test_the_catalogs_task_settles_a_silent_file(version: VersionOf) -> None:
    silent = facts({"names": SAID["names"]})
    raw = columns(ANGLES[:, np.newaxis])
    with pytest.raises(ModelError, match="the output is"):
        Head.of(version(Path("unused.onnx")), silent, [raw.shape], IMGSZ)
    head = Head.of(version(Path("unused.onnx"), task="obb"), silent, [raw.shape], IMGSZ)
    assert head.layout is Layout.TURNED
    with pytest.raises(ModelError, match="the output is"):
        Head.of(version(Path("unused.onnx"), task="segment"), silent, [raw.shape], IMGSZ)


IMPLAUSIBLE = [
    ("turned in degrees", columns(np.array([[30.0], [45.0]], np.float32)), {"task": "obb"}, "beyond a turn"),
    (
        "keypoints in shares",
        columns(POINTS.reshape(2, -1) / np.float32(320)),
        {"task": "pose", "kpt_shape": "[2, 3]"},
        "in shares",
    ),
    (
        "scores of keypoints",
        columns(POINTS[..., ::-1].reshape(2, -1)),
        {"task": "pose", "kpt_shape": "[2, 3]"},
        "scores",
    ),
    ("logits as scores", np.array([[3.0, -1.0, 0.5]], np.float32), {"task": "classify"}, "beyond 0 and 1"),
    ("half a distribution", np.array([[0.3, 0.1, 0.1]], np.float32), {"task": "classify"}, "add up to 0.5"),
]


@pytest.mark.parametrize(
    ("raw", "said", "words"), [case[1:] for case in IMPLAUSIBLE], ids=[case[0] for case in IMPLAUSIBLE]
)
def test_impossible_numbers_are_refused_at_the_proof(
    entry: ModelVersion, raw: Array, said: dict[str, str], words: str
) -> None:
    head = Head.of(entry, facts(SAID, **said), [raw.shape], IMGSZ)
    with pytest.raises(ModelError, match=words) as refused:
        head.require_right((raw,))
    assert refused.value.reason == "implausible"


def test_angles_of_what_is_no_object_have_no_bound(entry: ModelVersion) -> None:
    raw = columns(ANGLES[:, np.newaxis])
    raw[0, :4, 40], raw[0, -1, 40] = CENTRES[0], 9.5
    _, found = decoded(entry, facts(SAID, task="obb"), raw)
    assert len(found) == len(SCORES)


def test_scores_read_as_logits_are_refused_at_the_proof(entry: ModelVersion) -> None:
    head = Head.of(entry, facts(V5), [(1, 3)], IMGSZ)
    with pytest.raises(ModelError, match="scores already") as refused:
        head.require_right((np.array([[0.1, 0.7, 0.2]], np.float32),))
    assert refused.value.reason == "implausible"


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_masks_that_are_no_numbers_are_refused_and_not_left_out(entry: ModelVersion, number: float) -> None:
    raw, masks = columns(SHARES), prototypes()
    head = Head.of(entry, facts(SAID, task="segment"), [raw.shape, masks.shape], IMGSZ)
    masks[0, 0] = number
    with pytest.raises(ModelError, match="NaN or infinity among the masks") as refused:
        head.decode((raw, masks), PLACEMENT)
    assert refused.value.reason == "proof_failed"


def test_an_object_without_a_mask_is_none(entry: ModelVersion) -> None:
    shares = SHARES.copy()
    shares[0] = (0, 0, -1)
    _, found = decoded(entry, facts(SAID, task="segment"), columns(shares), prototypes())
    assert found.classes.tolist() == [2]


def test_an_object_whose_mask_lies_in_the_padding_only_is_none(entry: ModelVersion) -> None:
    raw, masks = columns(SHARES), prototypes()
    raw[0, :4, 1999] = (60, 20, 80, 36)  # above the picture
    masks[0, 0] = 1
    _, found = decoded(entry, facts(SAID, task="segment"), raw, masks)
    assert found.classes.tolist() == [2]


@pytest.mark.parametrize(
    ("raw", "more", "task"),
    [
        (columns(SHARES), [prototypes()], "segment"),
        (columns(POINTS.reshape(2, -1)), [], "pose"),
        (columns(ANGLES[:, np.newaxis]), [], "obb"),
    ],
    ids=["segment", "pose", "obb"],
)
def test_boxes_whose_corners_are_beyond_all_numbers_are_refused(
    entry: ModelVersion, raw: Array, more: list[Array], task: str
) -> None:
    said = facts(SAID, task=task, **({"kpt_shape": "[2, 3]"} if task == "pose" else {}))
    head = Head.of(entry, said, [one.shape for one in (raw, *more)], IMGSZ)
    raw = raw.copy()
    raw[0, :4, 3] = 3e38
    with pytest.raises(ModelError, match="NaN or infinity among the candidates") as refused:
        head.decode((raw, *more), PLACEMENT)
    assert refused.value.reason == "proof_failed"
