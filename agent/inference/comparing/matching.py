"""Matches the objects that two models found in one frame."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from agent.inference.validation.golden import iou
from agent.inference.validation.outlines import masks_iou, turned_iou
from agent.messages.payloads import DetectedObject, ScoredLabel

SAME_AT_LEAST: Final = 0.5
"""Least overlap of two objects that are the same one."""
SURE: Final = 0.5
"""Score from which a model is sure of an object."""
_BORDERLINE: Final = 0.05
"""Distance of a score from the threshold below which an object that one model found alone does not count."""
_SEEN: Final = 0.5
"""Least score of a keypoint whose place counts."""
_POINT_SPREAD: Final = 0.1
"""Distance of two keypoints, as a share of the box's longer side, at which their likeness has dropped to 0.6."""

Top = list[ScoredLabel] | msgspec.UnsetType


@dataclass(frozen=True)
class FrameAnswer:
    """A model's answer to one frame, as published, with the model's confidence threshold."""

    objects: list[DetectedObject]
    top: Top = msgspec.UNSET
    confidence: float = 0.0


@dataclass(frozen=True)
class Pair:
    """One object as both models found it."""

    label: str
    score: float
    """Difference of the scores, candidate less stable."""
    overlap: float


@dataclass
class Difference:
    """The answers of two models to one frame, compared."""

    pairs: list[Pair] = field(default_factory=list)
    missing: list[DetectedObject | ScoredLabel] = field(default_factory=list)
    """Objects that the stable model alone found."""
    extra: list[DetectedObject | ScoredLabel] = field(default_factory=list)
    """Objects that the candidate alone found."""
    borderline: int = 0

    @property
    def against(self) -> int:
        """Objects that count against the candidate: sure ones that it misses, and unsure ones that it adds.

        A better version drops unsure objects, and adds sure ones.
        """
        missed = sum(one.score >= SURE for one in self.missing)
        return missed + sum(one.score < SURE for one in self.extra)

    @property
    def distance(self) -> float:
        """The answers' difference: scores of objects that one found alone, and what pairs lack in overlap and score."""
        alone = sum(one.score for one in (*self.missing, *self.extra))
        return alone + sum((1 - one.overlap) * 0.5 + abs(one.score) for one in self.pairs)


def compare(stable: FrameAnswer, candidate: FrameAnswer) -> Difference:
    """Match the objects of two answers by label and overlap, those with the highest scores first.

    The overlap is that of masks or turned boxes where the models give them, else of boxes; of poses, the likeness of
    their keypoints. Of classifying models, the best classes are compared.
    """
    if isinstance(stable.top, list) and isinstance(candidate.top, list):
        return _of_words(stable.top, candidate.top)
    found = Difference()
    left: dict[str, list[DetectedObject]] = {}
    for one in candidate.objects:
        left.setdefault(one.label, []).append(one)
    for one in sorted(stable.objects, key=lambda item: -item.score):
        pair = _best(one, left.get(one.label, []))
        if pair is None:
            _alone(found.missing, one, stable.confidence, found)
            continue
        other, overlap = pair
        left[one.label].remove(other)
        found.pairs.append(Pair(one.label, other.score - one.score, overlap))
    for others in left.values():
        for one in others:
            _alone(found.extra, one, candidate.confidence, found)
    return found


def _of_words(stable: list[ScoredLabel], candidate: list[ScoredLabel]) -> Difference:
    found = Difference()
    if stable and candidate and stable[0].label == candidate[0].label:
        found.pairs.append(Pair(stable[0].label, candidate[0].score - stable[0].score, 1.0))
        return found
    found.missing += stable[:1]
    found.extra += candidate[:1]
    return found


def _alone(
    where: list[DetectedObject | ScoredLabel], one: DetectedObject, confidence: float, found: Difference
) -> None:
    """Record what one model found alone, unless rounding may have moved it over the threshold."""
    if abs(one.score - confidence) <= _BORDERLINE:
        found.borderline += 1
    else:
        where.append(one)


def _best(one: DetectedObject, others: list[DetectedObject]) -> tuple[DetectedObject, float] | None:
    """Return the other object that overlaps most, with the overlap; None where none overlaps enough."""
    measured = ((other, _overlap(one, other)) for other in _near(one, others))
    best = max(measured, key=lambda pair: pair[1], default=None)
    return best if best is not None and best[1] >= SAME_AT_LEAST else None


def _near(one: DetectedObject, others: list[DetectedObject]) -> Iterator[DetectedObject]:
    """Yield the objects whose boxes touch, because only those can overlap, and outlines take long to compare."""
    x1, y1, x2, y2 = one.box
    return (o for o in others if o.box[0] <= x2 and o.box[2] >= x1 and o.box[1] <= y2 and o.box[3] >= y1)


def _overlap(one: DetectedObject, other: DetectedObject) -> float:
    boxes = iou(one.box, other.box)
    ways: tuple[tuple[object, object, Callable[[DetectedObject, DetectedObject], float]], ...] = (
        (one.corners, other.corners, _of_corners),
        (one.polygons, other.polygons, _of_polygons),
        (one.keypoints, other.keypoints, _of_keypoints),
    )
    for own, others, measure in ways:
        if own is not msgspec.UNSET and others is not msgspec.UNSET:
            # Boxes first, because masks that cannot be the same take long to draw; turned boxes have no such rule.
            is_far = measure is not _of_corners and boxes < SAME_AT_LEAST
            return boxes if is_far else measure(one, other)
    return boxes


def _of_corners(one: DetectedObject, other: DetectedObject) -> float:
    return turned_iou(np.array(one.corners, np.float32), np.array(other.corners, np.float32))


def _of_polygons(one: DetectedObject, other: DetectedObject) -> float:
    own, others = one.polygons, other.polygons
    return masks_iou(own, others) if isinstance(own, list) and isinstance(others, list) else 0.0


def _of_keypoints(one: DetectedObject, other: DetectedObject) -> float:
    """Return the mean likeness of the keypoints that the stable model sees, 0 to 1; 1 where it sees none."""
    own, others = np.array(one.keypoints, np.float64), np.array(other.keypoints, np.float64)
    if own.shape != others.shape:
        return 0.0
    seen = own[:, 2] >= _SEEN
    if not seen.any():
        return 1.0
    left, top, right, bottom = one.box
    spread = _POINT_SPREAD * max(right - left, bottom - top, 1.0)
    squares = ((own[seen, :2] - others[seen, :2]) ** 2).sum(axis=1)
    return float(np.exp(-squares / (2 * spread * spread)).mean())
