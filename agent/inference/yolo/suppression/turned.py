"""Suppression of turned boxes, with the results of ultralytics: a box goes if any better one of its class is alike.

Alike means that the Hellinger distance of two Gaussians is small (ProbIoU, Llerena et al. 2021, arXiv:2106.06072),
each with the mean and the covariance of a box's area. Unlike in upright suppression a box is dropped also by one that
was dropped itself (Fast NMS, Bolya et al. 2019, arXiv:1904.02689), as in ultralytics.
"""

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.layouts import MAX_OBJECTS

MAX_CANDIDATES: Final = 30_000
_BLOCK: Final = 128
"""Candidates compared at once to all better ones, which takes time by their product."""
_MOST_BLOCKS: Final = 16
"""Blocks looked at; more are there only where thousands of candidates form chains that no kept box drops."""
_TINY: Final = 1e-7  # epsilon of ultralytics' batch_probiou
_FURTHEST: Final = 100.0
_VARIANCE: Final = 12  # of a uniform distribution over a side of 1, as a divisor

_Indices = NDArray[np.intp]


def corners_of(boxes: NDArray[np.float32], angles: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the corners (n, 4, 2) of boxes (n, 4), centre and size, turned clockwise by angles (n,) in radians.

    The first corner is the upper left one of a box that is not turned; the others follow clockwise.
    """
    cosines, sines = np.cos(angles), np.sin(angles)
    along = np.stack((cosines, sines), axis=1) * boxes[:, 2:3] / 2
    across = np.stack((-sines, cosines), axis=1) * boxes[:, 3:4] / 2
    centres = boxes[:, :2]
    corners: NDArray[np.float32] = np.stack(
        (centres - along - across, centres + along - across, centres + along + across, centres - along + across), axis=1
    )
    return corners


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.integer], iou: float
) -> _Indices:
    """Return the indices of the kept boxes by descending score, equal scores in input order; at most MAX_OBJECTS.

    `boxes` is float32 (n, 5): centre, size, angle in radians; `scores` (n,); `classes` integers (n,).
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    sorted_ = _Gaussians.of(boxes[order], classes[order])
    limit = _limit(iou)
    is_left = np.ones(len(order), bool)
    kept: list[_Indices] = []
    count = begin = 0
    for _ in range(_MOST_BLOCKS):
        block = np.flatnonzero(is_left[begin:])[:_BLOCK] + begin
        if not len(block) or count >= MAX_OBJECTS:
            break
        begin = int(block[-1]) + 1
        winners = block[~_have_better(sorted_, block, begin, limit)]
        kept.append(winners)
        count += len(winners)
        later = np.flatnonzero(is_left[begin:]) + begin
        if len(winners) and len(later):
            _, others = _alike(sorted_.at(winners), sorted_.at(later), limit)
            is_left[later[others]] = False
    found: _Indices = order[np.concatenate(kept)[:MAX_OBJECTS]] if kept else order[:0]
    return found


class _Gaussians(NamedTuple):
    """Boxes as Gaussians by columns, float32 (n,): mean, covariance [[a, c], [c, b]], half diagonal; classes (n,)."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    c: NDArray[np.float32]
    classes: NDArray[np.integer]

    @classmethod
    def of(cls, boxes: NDArray[np.float32], classes: NDArray[np.integer]) -> "_Gaussians":
        x, y, width, height, angle = np.ascontiguousarray(boxes.T)
        along, across = width * width / np.float32(_VARIANCE), height * height / np.float32(_VARIANCE)
        cosine, sine = np.cos(angle), np.sin(angle)
        a = along * cosine * cosine + across * sine * sine
        b = along * sine * sine + across * cosine * cosine
        return cls(x, y, a, b, (along - across) * cosine * sine, classes)

    def at(self, indices: _Indices) -> "_Gaussians":
        x, y, a, b, c = (column[indices] for column in self[:5])
        return _Gaussians(x, y, a, b, c, self.classes[indices])


def _limit(iou: float) -> float:
    """Return the Bhattacharyya distance below which two boxes' ProbIoU is above `iou`."""
    share = 1 + _TINY - (1 - iou) ** 2
    return -math.log(share) if share > 0 else _FURTHEST


def _have_better(all_: _Gaussians, block: _Indices, end: int, limit: float) -> NDArray[np.bool_]:
    """Return bool (block,): True for a candidate that is like any better one, `all_` being sorted by score."""
    better = np.arange(end)
    ones, others = _alike(all_.at(better), all_.at(block), limit)
    has = np.zeros(len(block), bool)
    has[others[ones < block[others]]] = True
    return has


def _alike(ones: _Gaussians, others: _Gaussians, limit: float) -> tuple[_Indices, _Indices]:
    """Return the pairs of a class that are alike, as indices into both.

    Most pairs are too far from each other: the first term alone is at least a quarter of their squared distance over
    the sum of their variances. The rest is computed as in ultralytics, in float32.
    """
    dx, dy = ones.x[:, np.newaxis] - others.x, ones.y[:, np.newaxis] - others.y
    reach = np.float32(4 * limit * 1.01) * ((ones.a + ones.b)[:, np.newaxis] + (others.a + others.b))
    is_near = dx * dx + dy * dy <= reach
    is_near &= ones.classes[:, np.newaxis] == others.classes
    first, second = np.nonzero(is_near)
    dx, dy = dx[first, second], dy[first, second]
    one, other = ones.at(first), others.at(second)
    a, b, c = one.a + other.a, one.b + other.b, one.c + other.c
    area = a * b - c * c
    tiny = np.float32(_TINY)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        apart = (a * dy * dy + b * dx * dx) / (area + tiny) * np.float32(0.25)
        apart -= c * dx * dy / (area + tiny) * np.float32(0.5)
        shares = np.maximum(one.a * one.b - one.c * one.c, 0) * np.maximum(other.a * other.b - other.c * other.c, 0)
        apart += np.log(area / (4 * np.sqrt(shares) + tiny) + tiny) * np.float32(0.5)
        is_alike = np.maximum(apart, tiny) < np.float32(limit)
    return first[is_alike], second[is_alike]
