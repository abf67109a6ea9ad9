"""Compares the answers of an artifact with those of its source, to choose a precision.

Objects are compared on pictures of the line only. On drawn ones, what passes the threshold and survives suppression
is chance; there the strongest candidates are compared, which every network has, also an untrained one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.backends import Model, Objects
from agent.inference.backends.detector import Detector, Look
from agent.inference.validation import drawn_pictures
from agent.inference.validation.golden import IOU_AT_LEAST, PICTURES, SCORE_WITHIN, iou
from agent.inference.validation.outlines import difference, difference_of_words
from agent.inference.yolo.detections import objects_of
from agent.inference.yolo.objects import Words
from agent.messages.errors import MistakeError
from agent.messages.payloads import ScoredLabel

_SHARE: Final = 0.99
_CANDIDATES_SHARE: Final = 0.95  # a right bfloat16 keeps 98 to 100 %, weights of three significant bits 10 to 90 %
_CANDIDATES: Final = 100  # of each picture, on either side
_FACTOR: Final = 1.5  # between two scores, because 0.05 apart says nothing of small ones
_TINY: Final = 1e-5
_FURTHER: Final = 0.1
"""Most error of a candidate's numbers beside box and score (RMS), as a share of their spread over all of them."""
_OF_AN_ANGLE: Final = 0.2
"""The same for an angle, whose two numbers scatter more than the mean of many: a right bfloat16 has 0.02 to 0.17."""
_ANGLE: Final = 2
_OTHERS: Final = 0.05
"""Most error of prototypes (RMS): a right bfloat16 has 0.01, three significant bits have 0.06 to 0.16."""
_LEAST_SPREAD: Final = 0.05  # as a share of the numbers' own RMS, because rounding is a share of them
_LIMIT: Final = 64

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Parity:
    """Result of a comparison of answers."""

    boxes: int
    """Distinct boxes of both sides together; a matched pair counts once."""
    matched: int
    """Pairs of matching boxes."""
    score_difference: float
    """Largest difference between the scores of a pair."""
    candidates: int = 0
    """Strongest candidates of both sides together."""
    alike: int = 0
    """Those to which the other side has a like one."""
    others: float = 0.0
    """Largest error (RMS) of what no candidate has as its own, as a share of its spread (RMS)."""
    is_drawn: bool = False
    """True where the pictures were drawn, so that the boxes do not count."""

    @property
    def is_enough(self) -> bool:
        """True where 95 % of the candidates and, on pictures of the line, 99 % of the boxes match.

        What no candidate has as its own, as prototypes of masks, has to be within 5 % of its spread.
        """
        is_alike = self.alike >= _CANDIDATES_SHARE * self.candidates and self.others <= _OTHERS
        return is_alike and (self.is_drawn or self.matched >= _SHARE * self.boxes)

    def __str__(self) -> str:
        boxes = f"{self.matched} of {self.boxes} boxes matched, scores within {self.score_difference:.3f}"
        candidates = f"{self.alike} of {self.candidates} strongest candidates alike"
        if self.others:
            candidates += f", prototypes within {self.others:.1%} of their spread"
        return f"{candidates} on drawn pictures" if self.is_drawn else f"{boxes}, {candidates}"


def looks(model: Detector, seen: Iterable[Picture]) -> list[Look]:
    """Return the model's objects and strongest candidates on each picture. Raises what `Detector.look` raises."""
    return [model.look(picture) for picture in seen]


def compare_looks(expected: list[Look], found: list[Look], confidence: float, *, is_drawn: bool) -> Parity:
    """Compare candidates, and objects as `compare` does."""
    objects = compare([one.objects for one in expected], [one.objects for one in found], confidence)
    pairs = [(want.candidates, got.candidates) for want, got in zip(expected, found, strict=True)]
    like = [_known(*sides) for want, got in pairs for sides in ((want, got), (got, want))]
    others = [
        pair for want, got in zip(expected, found, strict=True) for pair in zip(want.others, got.others, strict=True)
    ]
    return replace(
        objects,
        candidates=sum(map(len, like)),
        alike=sum(map(int, map(np.sum, like))),
        others=max((_rms(want - got) / _spread(want[:, np.newaxis]) for want, got in others), default=0.0),
        is_drawn=is_drawn,
    )


def _rms(numbers: NDArray[np.floating]) -> float:
    """Return the root of the mean of all squares."""
    return float(np.sqrt(np.mean(numbers**2)))


def _spread(numbers: NDArray[np.floating]) -> float:
    """Return the RMS of numbers (n, k) about the mean of each column, or the least that counts."""
    return max(_rms(numbers - numbers.mean(axis=0)), _LEAST_SPREAD * _rms(numbers), _TINY)


def _known(ones: Objects, others: Objects) -> NDArray[np.bool_]:
    """Return for each of the strongest of `ones` whether `others` has a like candidate."""
    boxes = ones.boxes[:_CANDIDATES, np.newaxis]
    scores, classes = ones.scores[:_CANDIDATES, np.newaxis], ones.classes[:_CANDIDATES, np.newaxis]
    corners = np.minimum(boxes[..., 2:], others.boxes[:, 2:]), np.maximum(boxes[..., :2], others.boxes[:, :2])
    shared = np.maximum(corners[0] - corners[1] + 1, 0).prod(axis=-1)
    union = _areas(boxes) + _areas(others.boxes) - shared
    apart, least = np.abs(scores - others.scores), np.minimum(scores, others.scores)
    is_near = (apart <= SCORE_WITHIN) & (apart <= (_FACTOR - 1) * least + _TINY)
    like: NDArray[np.bool_] = (shared >= IOU_AT_LEAST * union) & is_near & (classes == others.classes)
    for want, got in zip(ones.further, others.further, strict=True):
        if like.size:
            ours = want[:_CANDIDATES]
            error: NDArray[np.floating] = np.sqrt(np.mean((ours[:, np.newaxis] - got) ** 2, axis=-1))
            most = _OF_AN_ANGLE if ours.shape[1] == _ANGLE else _FURTHER
            np.logical_and(like, error <= most * _spread(ours), out=like)
    known: NDArray[np.bool_] = np.asarray(like.any(axis=1), np.bool_)
    return known


def _areas(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    areas: NDArray[np.float32] = (boxes[..., 2:] - boxes[..., :2] + 1).prod(axis=-1)
    return areas


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
