"""Compares the objects that an artifact and its source find, to decide between precisions."""

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
from agent.messages.errors import MistakeError

_SHARE: Final = 0.99
_LIMIT: Final = 64

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Parity:
    """Boxes of two answers, how many have a partner in the other, and how far partners' scores are apart."""

    boxes: int
    matched: int
    score_difference: float

    @property
    def is_enough(self) -> bool:
        """Say whether one may serve instead of the other."""
        return self.matched >= _SHARE * self.boxes

    def __str__(self) -> str:
        return f"{self.matched} of {self.boxes} boxes matched, scores within {self.score_difference:.3f}"


def pictures(folder: Path | None) -> list[Picture]:
    """Read at most 64 pictures of a folder; without one, draw some. Raises MistakeError where it holds none."""
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
    """Answer each picture. Raises what `Model.check_outputs` raises."""
    return [model.check_outputs(picture) for picture in seen]


def compare(expected: list[Objects], found: list[Objects], confidence: float) -> Parity:
    """Pair the boxes of each picture: of one class, with an IoU of 0.8 and more, and scores within 0.05.

    Boxes without a partner whose score is within 0.05 of `confidence` do not count: rounding moves them over it.
    """
    matched, alone, furthest = 0, 0, 0.0
    for want, got in zip(expected, found, strict=True):
        pairs = list(_pairs(want, got))
        matched += len(pairs)
        furthest = max([furthest, *(abs(float(want.scores[one] - got.scores[other])) for one, other in pairs)])
        alone += _alone(want, {one for one, _ in pairs}, confidence)
        alone += _alone(got, {other for _, other in pairs}, confidence)
    return Parity(matched + alone, matched, furthest)


def _pairs(want: Objects, got: Objects) -> Iterator[tuple[int, int]]:
    free = set(range(len(got)))
    for one in range(len(want)):
        fits = {
            other: overlap
            for other in free
            if got.classes[other] == want.classes[one]
            and abs(got.scores[other] - want.scores[one]) <= SCORE_WITHIN
            and (overlap := iou(want.boxes[one].tolist(), got.boxes[other].tolist())) >= IOU_AT_LEAST
        }
        if fits:
            nearest = max(fits, key=fits.__getitem__)
            free.remove(nearest)
            yield one, nearest


def _alone(objects: Objects, paired: set[int], confidence: float) -> int:
    clear = np.abs(objects.scores - confidence) > SCORE_WITHIN
    return sum(1 for at in np.flatnonzero(clear) if int(at) not in paired)
