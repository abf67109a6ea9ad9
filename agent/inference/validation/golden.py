"""Checks a model before it serves: its numbers are possible, and golden pictures give the expected objects.

Golden pictures lie in one folder, each beside its expected objects: `01.jpg` (or .jpeg, .png, .bmp) and `01.json`,
which holds `{"objects": [{"label": "cap", "class": 0, "score": 0.91, "box": [x1, y1, x2, y2]}]}`, as detections are
published, with `polygons`, `keypoints`, `angle` and `corners`, or with `top`, where the model gives them. An expected
object is met by one of the same label with an IoU of at least 0.8 and a score within 0.05, whose mask, keypoints or
angle are the same as far as `outlines` asks. Without `objects`, none are expected; a classifier needs `top`.
Objects whose score is within 0.05 of the confidence threshold may be missing, or be found without being expected: a
different precision moves them over it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.inference.backends import Model
from agent.inference.validation import drawn_pictures
from agent.inference.validation.outlines import difference, difference_of_words
from agent.inference.yolo.detections import objects_of, top_of
from agent.messages.errors import ModelError
from agent.messages.payloads import DetectedObject, ScoredLabel
from agent.messages.references import ModelVersion

IOU_AT_LEAST: Final = 0.8
SCORE_WITHIN: Final = 0.05
_LEAST_NUMBERS: Final = 6  # x, y of three points
_FURTHEST: Final = 16_384  # pixels, because masks are compared on a canvas as large as their rings reach
PICTURES: Final = (".jpg", ".jpeg", ".png", ".bmp")

_OF_WORDS: Final = "the model gives no objects but the classes of the whole picture: nothing would be compared"

Box = tuple[float, float, float, float]


class UnreadableError(ModelError):
    """The disk did not give a golden picture, which says nothing of the model's answers."""

    def __init__(self, error: OSError) -> None:
        super().__init__("proof_failed", f"the golden pictures cannot be read: {error}")


class _UnusableError(ValueError):
    """Nothing can be compared to what a JSON file expects."""


class _Expected(msgspec.Struct, frozen=True):
    objects: list[DetectedObject] | None = None
    top: list[ScoredLabel] | None = None


def warm_up(model: Model, *, is_proven: bool = False) -> int:
    """Infer a blank picture and one with shapes, check every number, and return the number of pictures.

    There are two, because a wrongly decoded model may find nothing on a blank picture, like a correct one; a model that
    passed its checks before (`is_proven`) infers only the one with shapes. The first inference is the slowest. Raises
    what `Model.check_outputs` raises, and ModelError("proof_failed").
    """
    pictures = _drawn(model, is_proven=is_proven)
    for picture in pictures:
        _check(model, picture)
    return len(pictures)


def _drawn(model: Model, *, is_proven: bool = False) -> list[NDArray[np.uint8]]:
    """Return the drawn pictures that `warm_up` infers."""
    busy = next(drawn_pictures.busy())
    return [busy] if is_proven else [drawn_pictures.blank(model.imgsz), busy]


def _check(model: Model, picture: NDArray[np.uint8]) -> None:
    """Infer a drawn picture. Raises what `warm_up` raises."""
    found = model.check_outputs(picture)
    scores, classes = (found.scores, found.classes) if found.top is None else found.top
    if not (np.isfinite(found.boxes).all() and np.isfinite(scores).all()):
        raise ModelError("proof_failed", "the answer to a drawn picture holds NaN or infinity")
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < len(model.names):
        raise ModelError("proof_failed", f"the answer names classes beyond the model's {len(model.names)}")


def prove(model: Model, version: ModelVersion, before_each: Callable[[], object] = lambda: None) -> None:
    """Compare the model's detections on its golden pictures to the expected ones; without such pictures do nothing.

    Raises ModelError("proof_failed") that names the first difference, and what `Model.check_outputs` and `before_each`,
    which is called before each picture, raise.
    """
    for is_inference in _golden_steps(model, version):
        if is_inference:
            before_each()


def proof_steps(model: Model, version: ModelVersion) -> Iterator[bool]:
    """Do what `warm_up` and `prove` do, but yield before each step, so that the caller can pause or stop.

    Yields True where the step infers a picture, and False before files are read.
    """
    for picture in _drawn(model, is_proven=False):
        yield True
        _check(model, picture)
    yield from _golden_steps(model, version)


def golden_files(version: ModelVersion) -> list[Path]:
    """Return the golden pictures and their JSON files, in order. Raises ModelError("proof_failed")."""
    pairs = _golden(Path(version.golden)) if version.golden is not None else ()
    return [file for picture, _ in pairs for file in (picture, picture.with_suffix(".json"))]


def _golden_steps(model: Model, version: ModelVersion) -> Iterator[bool]:
    if version.golden is None:
        return
    yield False
    pairs = list(_golden(Path(version.golden)))
    if not pairs:
        raise ModelError("proof_failed", f"{version.golden} holds no golden picture beside its JSON")
    for picture, expected in pairs:
        yield False
        pixels = _read_picture(picture)
        yield True
        answer = model.check_outputs(pixels)
        if answer.top is not None and not expected.top:
            raise ModelError("proof_failed", f"{picture.with_suffix('.json')} has no `top`, and {_OF_WORDS}")
        different = compare(expected.objects or [], objects_of(answer, model.names), version.confidence)
        if expected.top:
            different = different or difference_of_words(expected.top, top_of(answer, model.names), SCORE_WITHIN)
        if different:
            raise ModelError("proof_failed", f"{picture.name}: {different}")


def compare(expected: list[DetectedObject], found: list[DetectedObject], confidence: float) -> str | None:
    """Describe the first significant difference between expected and found objects; None without one."""
    left = list(found)
    for want in sorted(expected, key=lambda item: -item.score):
        match = max((f for f in left if f.label == want.label), key=lambda f: iou(want.box, f.box), default=None)
        if match is None or iou(want.box, match.box) < IOU_AT_LEAST:
            if _is_borderline(want, confidence):
                continue
            return f"no {want.label} at {list(want.box)} (score {want.score})"
        left.remove(match)
        if abs(match.score - want.score) > SCORE_WITHIN:
            return f"{want.label} at {list(want.box)} scores {match.score}, not {want.score}"
        different = difference(want, match)
        if different:
            return f"{want.label} at {list(want.box)}: {different}"
    extra = next((item for item in left if not _is_borderline(item, confidence)), None)
    return f"{extra.label} at {list(extra.box)} was not expected (score {extra.score})" if extra else None


def _is_borderline(item: DetectedObject, confidence: float) -> bool:
    return abs(item.score - confidence) <= SCORE_WITHIN


def iou(one: Box, other: Box) -> float:
    """Return the intersection over union of two boxes (x1, y1, x2, y2), each side a pixel longer.

    The pixel counts, because a box that the picture's edge cuts off is a line, and a line must overlap itself.
    """
    width = min(one[2], other[2]) - max(one[0], other[0]) + 1
    height = min(one[3], other[3]) - max(one[1], other[1]) + 1
    shared = max(0.0, width) * max(0.0, height)
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return (box[2] - box[0] + 1) * (box[3] - box[1] + 1)


def _golden(folder: Path) -> Iterator[tuple[Path, _Expected]]:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise UnreadableError(error) from error
    for picture in files:
        beside = picture.with_suffix(".json")
        if picture.suffix.lower() in PICTURES and beside in files:
            yield picture, _read_expected(beside)


def _read_expected(path: Path) -> _Expected:
    try:
        expected = msgspec.json.decode(path.read_bytes(), type=_Expected)
        _require_usable(expected)
    except OSError as error:
        raise UnreadableError(error) from error
    except (msgspec.DecodeError, _UnusableError) as error:
        raise ModelError("proof_failed", f"{path} is no list of expected objects: {error}") from error
    return expected


def _require_usable(expected: _Expected) -> None:
    """Raise _UnusableError where nothing is expected, or polygons cannot be drawn."""
    if expected.objects is None and not expected.top:
        raise _UnusableError("it has neither `objects` nor `top`")
    for item in expected.objects or ():
        _require_rings(item)


def _require_rings(item: DetectedObject) -> None:
    """Raise _UnusableError for polygons that cannot be drawn, because masks are compared as pictures."""
    for ring in item.polygons if isinstance(item.polygons, list) else ():
        if len(ring) % 2 or len(ring) < _LEAST_NUMBERS:
            raise _UnusableError(f"a ring of {item.label} has {len(ring)} numbers: x, y of 3 points or more are needed")
        if max(map(abs, ring)) > _FURTHEST:
            raise _UnusableError(f"a ring of {item.label} goes beyond {_FURTHEST} pixels")


def _read_picture(path: Path) -> NDArray[np.uint8]:
    import cv2  # noqa: PLC0415 - only a proof reads pictures from files

    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnreadableError(error) from error
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) if content else None
    if image is None:
        raise ModelError("proof_failed", f"{path} is no picture")
    return np.asarray(image, np.uint8)
