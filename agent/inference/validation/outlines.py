"""Compares what a task adds to a box: masks, keypoints, angles, and the classes of a whole picture."""

import math
from collections.abc import Sequence
from typing import Final

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.messages.payloads import DetectedObject, ScoredLabel

ALIKE_AT_LEAST: Final = 0.8
"""Least intersection over union of two masks, or of two turned boxes."""
ANGLE_WITHIN: Final = math.radians(10)
"""Most difference of two turned boxes' angles, up to quarter turns, which turn a square into itself."""
POINT_WITHIN: Final = 0.05
"""Most distance of two keypoints as a share of the box's longer side."""
_PIXELS_WITHIN: Final = 2.0
_SEEN: Final = 0.5
"""Least score of a keypoint whose place counts."""
_SUBPIXEL: Final = 3
"""Bits of a pixel's fraction in which outlines are drawn."""

Polygons = Sequence[Sequence[float]]
"""Outer rings of a mask as they are published, each x, y, x, y, ... in pixels."""


def difference(want: DetectedObject, found: DetectedObject) -> str | None:
    """Describe how an object that matches by box, label and score differs in what its task adds; None if it does not.

    Only what `want` has is compared.
    """
    if isinstance(want.polygons, list):
        shared = masks_iou(want.polygons, found.polygons) if isinstance(found.polygons, list) else 0.0
        return None if shared >= ALIKE_AT_LEAST else f"its mask overlaps the expected one by {shared:.2f}"
    if isinstance(want.keypoints, list):
        return _of_keypoints(want, found)
    if isinstance(want.corners, tuple):
        return _of_turned(want, found)
    return None


def difference_of_words(
    want: Sequence[ScoredLabel], found: Sequence[ScoredLabel] | msgspec.UnsetType, within: float
) -> str | None:
    """Describe how the best class differs from the expected one; None if it does not.

    Another one may be best where the expected two best have scores within `within` of each other.
    """
    if not isinstance(found, list) or not found:
        return "it names no class of the picture"
    best, *others = want
    if found[0].label == best.label:
        apart = abs(found[0].score - best.score)
        return None if apart <= within else f"{best.label} scores {found[0].score}, not {best.score}"
    rivals = [item.label for item in others if abs(best.score - item.score) <= within]
    return None if found[0].label in rivals else f"it is {found[0].label}, not {best.label}"


def masks_iou(ones: Polygons, others: Polygons) -> float:
    """Return the intersection over union of two masks, each by its outer rings (x, y, x, y, ...) in pixels."""
    points = np.array([*_joined(ones), *_joined(others)], np.float32).reshape(-1, 2)
    if not len(points):
        return 0.0
    low = np.floor(points.min(axis=0)) - 1
    columns, rows = (np.ceil(points.max(axis=0)) + 2 - low).astype(int).tolist()
    one, other = (_drawn(rings, low, (rows, columns)) for rings in (ones, others))
    union = np.count_nonzero(one | other)
    return np.count_nonzero(one & other) / union if union else 0.0


def turned_iou(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the intersection over union of two turned boxes (4, 2), by their corners."""
    shared, _ = cv2.intersectConvexConvex(one, other)
    union = cv2.contourArea(one) + cv2.contourArea(other) - shared
    return float(shared / union) if union > 0 else 0.0


def _joined(rings: Polygons) -> list[float]:
    return [number for ring in rings for number in ring]


def _drawn(rings: Polygons, low: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.uint8]:
    mask = np.zeros(size, np.uint8)
    outlines = [np.array(ring, np.float32).reshape(-1, 2) - low - np.float32(0.5) for ring in rings if len(ring)]
    fixed = [np.round(outline * (1 << _SUBPIXEL)).astype(np.int32) for outline in outlines]
    for outline in fixed:  # one by one, because rings that touch would cut holes
        cv2.fillPoly(mask, [outline], (1,), cv2.LINE_8, _SUBPIXEL)
    return mask


def _of_keypoints(want: DetectedObject, found: DetectedObject) -> str | None:
    wanted, points = want.keypoints, found.keypoints
    if not isinstance(wanted, list) or not isinstance(points, list) or len(points) != len(wanted):
        return "its keypoints are not as many as expected"
    left, top, right, bottom = want.box
    within = max(_PIXELS_WITHIN, POINT_WITHIN * max(right - left, bottom - top))
    far = [at for at, pair in enumerate(zip(wanted, points, strict=True)) if _apart(*pair) > within]
    return f"keypoint {far[0]} is {_apart(wanted[far[0]], points[far[0]]):.1f} pixels off" if far else None


def _apart(want: Sequence[float], found: Sequence[float]) -> float:
    return math.dist(want[:2], found[:2]) if want[2] >= _SEEN else 0.0


def _of_turned(want: DetectedObject, found: DetectedObject) -> str | None:
    if not isinstance(found.corners, tuple):
        return "it has no corners"
    shared = turned_iou(np.array(want.corners, np.float32), np.array(found.corners, np.float32))
    if shared < ALIKE_AT_LEAST:
        return f"its turned box overlaps the expected one by {shared:.2f}"
    if isinstance(want.angle, float) and isinstance(found.angle, float):
        off = abs(math.remainder(want.angle - found.angle, math.pi / 2))
        if off > ANGLE_WITHIN:
            return f"its angle is {found.angle}, not {want.angle}"
    return None
