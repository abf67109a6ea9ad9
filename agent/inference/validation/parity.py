"""Compares the detections of an artifact with those of its source, to choose a precision."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.backends import Model, Objects
from agent.inference.validation import drawn_pictures
from agent.inference.validation.golden import IOU_AT_LEAST, PICTURES, SCORE_WITHIN, iou
from agent.inference.validation.outlines import difference, difference_of_words
from agent.inference.yolo.detections import objects_of
from agent.inference.yolo.objects import Words
from agent.messages.errors import MistakeError
from agent.messages.payloads import ScoredLabel

_SHARE: Final = 0.99
_LIMIT: Final = 64

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Parity:
    """Result of a comparison of detections."""

    boxes: int
    """Distinct boxes of both sides together; a matched pair counts once."""
    matched: int
    """Pairs of matching boxes."""
    score_difference: float
    """Largest difference between the scores of a pair."""

    @property
    def is_enough(self) -> bool:
        """True where at least 99 % of the boxes match, so that the artifact may serve."""
        return self.matched >= _SHARE * self.boxes

    def __str__(self) -> str:
        return f"{self.matched} of {self.boxes} boxes matched, scores within {self.score_difference:.3f}"


def pictures(folder: Path | None) -> list[Picture]:
    """Read at most 64 pictures of a folder; for None, draw some. Raises MistakeError for a folder without pictures."""
    if folder is None:
        return list(drawn_pictures.busy())
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)[:_LIMIT]
    except OSError as error:
        raise MistakeError(f"{folder}: {error.strerror}") from error
    read = [cv2.imread(str(path), cv2.IMREAD_COLOR) for path in files]
    found = [np.asarray(picture, np.uint8) for picture in read if picture is not None]
    if not found:
        raise MistakeError(f"{folder} holds no picture ({', '.join(PICTURES)})")
    return found


def answers(model: Model, seen: Iterable[Picture]) -> list[Objects]:
    """Return the model's detections on each picture. Raises what `Model.check_outputs` raises."""
    return [model.check_outputs(picture) for picture in seen]


def compare(expected: list[Objects], found: list[Objects], confidence: float) -> Parity:
    """Match the boxes of each picture: the same class, an IoU of at least 0.8, and scores within 0.05.

    Masks, keypoints and turned boxes are alike as in golden pictures. A classified picture counts as one box.

    An unmatched box with a score within 0.05 of `confidence` is not counted, because rounding alone may add or
    remove it.
    """
    matched, alone, furthest = 0, 0, 0.0
    for want, got in zip(expected, found, strict=True):
        if want.top is not None and got.top is not None:
            differs = difference_of_words(_words(want.top), _words(got.top), SCORE_WITHIN) is not None
            matched, alone = matched + (not differs), alone + differs
            furthest = max(furthest, abs(float(want.top.scores[0] - got.top.scores[0])))
            continue
        pairs = list(_pairs(want, got))
        matched += len(pairs)
        furthest = max([furthest, *(abs(float(want.scores[one] - got.scores[other])) for one, other in pairs)])
        alone += _alone(want, {one for one, _ in pairs}, confidence)
        alone += _alone(got, {other for _, other in pairs}, confidence)
    return Parity(matched + alone, matched, furthest)


def _pairs(want: Objects, got: Objects) -> Iterator[tuple[int, int]]:
    free = set(range(len(got)))
    wanted, given = (objects_of(one, _numbers(one.classes)) for one in (want, got))
    for one in range(len(want)):
        fits = {
            other: overlap
            for other in free
            if got.classes[other] == want.classes[one]
            and abs(got.scores[other] - want.scores[one]) <= SCORE_WITHIN
            and (overlap := iou(want.boxes[one].tolist(), got.boxes[other].tolist())) >= IOU_AT_LEAST
            and difference(wanted[one], given[other]) is None
        }
        if fits:
            nearest = max(fits, key=fits.__getitem__)
            free.remove(nearest)
            yield one, nearest


def _words(top: Words) -> list[ScoredLabel]:
    pairs = zip(top.classes.tolist(), top.scores.tolist(), strict=True)
    return [ScoredLabel(label=str(index), class_=index, score=score) for index, score in pairs]


def _numbers(classes: NDArray[np.int32]) -> tuple[str, ...]:
    """Return a name for each class, so that objects of two models can be compared in their published form."""
    return tuple(map(str, range(int(classes.max(initial=-1)) + 1)))


def _alone(objects: Objects, paired: set[int], confidence: float) -> int:
    clear = np.abs(objects.scores - confidence) > SCORE_WITHIN
    return sum(1 for at in np.flatnonzero(clear) if int(at) not in paired)
