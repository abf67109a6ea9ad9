"""Non-maximum suppression by class, with the results of ultralytics, in time that grows with the kept boxes."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.layouts import MAX_OBJECTS

MAX_CANDIDATES: Final = 30_000
_BEST: Final = 512  # sorted first, because mostly MAX_OBJECTS are kept before the others matter
_CHUNK: Final = 128  # boxes compared with each other at once, which takes time by its square
_TILE: Final = 512  # near each other, compared at once to what was kept near them; more of them, where few were kept
_PAIRS: Final = 32_768  # compared at once at most, because their numbers are to stay in the processor's cache
_CELLS: Final = 16  # a side: in so many columns and rows all boxes are sorted into tiles

_Indices = NDArray[np.intp]


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.integer], iou: float
) -> _Indices:
    """Return the indices of the kept boxes by descending score, equal scores in input order; at most MAX_OBJECTS.

    `boxes` is float32 (n, 4): x1, y1, x2, y2; `scores` float32 (n,); `classes` integers (n,).
    Of two boxes of a class with an overlap above `iou`, the one with the lower score is dropped.
    """
    kept = _Kept(_Boxes(np.ascontiguousarray(boxes.T, np.float32), classes.astype(np.int32)), iou)
    left = np.arange(len(scores))
    if len(left) > MAX_CANDIDATES:
        left, _ = _split(scores, left, MAX_CANDIDATES)
    while len(left) and kept.count < MAX_OBJECTS:
        best, left = _split(scores, left, _BEST)
        before = kept.count
        kept.add(best[np.argsort(-scores[best], kind="stable")])
        if len(left) and kept.count < MAX_OBJECTS:
            left = kept.without_rivals(left, before)
    return kept.indices()


def _split(scores: NDArray[np.float32], left: _Indices, count: int) -> tuple[_Indices, _Indices]:
    """Split the indices `left` into the `count` with the highest scores (of equals the first ones) and the rest."""
    if len(left) <= count:
        return left, left[:0]
    mine = scores[left]
    least = np.partition(mine, -count)[-count]
    is_best = mine > least
    is_best[np.flatnonzero(mine == least)[: count - np.count_nonzero(is_best)]] = True
    return left[is_best], left[~is_best]


class _Boxes(NamedTuple):
    """Boxes by columns: edges float32 (4, n) as left, top, right, bottom; classes (n,)."""

    edges: NDArray[np.float32]
    classes: NDArray[np.integer]

    def at(self, indices: _Indices | slice) -> "_Boxes":
        if isinstance(indices, slice):
            return _Boxes(self.edges[:, indices], self.classes[indices])
        return _Boxes(np.take(self.edges, indices, axis=1), self.classes[indices])  # indexing would transpose them

    @property
    def centres(self) -> NDArray[np.float32]:
        """Centres (2, n): x, y."""
        centres: NDArray[np.float32] = (self.edges[:2] + self.edges[2:]) * np.float32(0.5)
        return centres

    @property
    def sides(self) -> NDArray[np.float32]:
        """Sides (2, n): width, height."""
        sides: NDArray[np.float32] = self.edges[2:] - self.edges[:2]
        return sides


class _Kept:
    """Boxes kept so far, with which candidates are compared."""

    def __init__(self, boxes: _Boxes, iou: float) -> None:
        self._boxes: Final = boxes
        self._iou: Final = iou
        self._indices: Final = np.empty(MAX_OBJECTS, np.intp)
        self.count = 0

    def indices(self) -> _Indices:
        kept: _Indices = self._indices[: self.count].copy()
        return kept

    def add(self, candidates: _Indices) -> None:
        """Keep each of the `candidates`, sorted by score, that overlaps no kept box before it."""
        while len(candidates) and self.count < MAX_OBJECTS:
            before = self.count
            self._add_chunk(candidates[:_CHUNK])
            candidates = candidates[_CHUNK:]
            if len(candidates):
                kept = self._boxes.at(self._indices[before : self.count])
                candidates = candidates[~_overlaps(kept, self._boxes.at(candidates), self._iou).any(axis=0)]

    def without_rivals(self, candidates: _Indices, first: int) -> _Indices:
        """Return the candidates that overlap none of the boxes kept from number `first` on; compare near boxes only."""
        kept = self._boxes.at(self._indices[first : self.count])
        boxes = self._boxes.at(candidates)
        order = _by_place(boxes.centres)
        boxes = boxes.at(order)
        size = max(_TILE, _PAIRS // len(kept.classes))
        begins = np.arange(0, len(order), size)
        reach, centres = _reach(self._iou) * kept.sides, kept.centres
        lows = np.minimum.reduceat(boxes.centres, begins, axis=1)[..., np.newaxis]
        highs = np.maximum.reduceat(boxes.centres, begins, axis=1)[..., np.newaxis]
        is_near = ((centres - reach)[:, np.newaxis] <= highs) & ((centres + reach)[:, np.newaxis] >= lows)
        is_rival = np.zeros(len(order), bool)
        for number, begin in enumerate(begins.tolist()):
            tile, near = slice(begin, begin + size), np.flatnonzero(is_near[:, number].all(axis=0))
            if len(near):
                is_rival[tile] = _overlaps(kept.at(near), boxes.at(tile), self._iou).any(axis=0)
        left: _Indices = np.sort(candidates[order[~is_rival]])
        return left

    def _add_chunk(self, chunk: _Indices) -> None:
        boxes = self._boxes.at(chunk)
        beats = _overlaps(boxes, boxes, self._iou)
        stays = np.ones(len(chunk), bool)
        for at in range(len(chunk)):
            if stays[at]:
                stays[at + 1 :] &= ~beats[at, at + 1 :]
        kept = chunk[stays][: MAX_OBJECTS - self.count]
        self._indices[self.count : self.count + len(kept)] = kept
        self.count += len(kept)


def _overlaps(ones: _Boxes, others: _Boxes, iou: float) -> NDArray[np.bool_]:
    """Return bool (ones, others): True for boxes of one class whose IoU is above `iou`, in float32 as in torch."""
    left, top, right, bottom = ones.edges[..., np.newaxis]
    other_left, other_top, other_right, other_bottom = others.edges
    shared = np.minimum(right, other_right)
    shared -= np.maximum(left, other_left)
    np.maximum(shared, 0, out=shared)
    height = np.minimum(bottom, other_bottom)
    height -= np.maximum(top, other_top)
    np.maximum(height, 0, out=height)
    shared *= height
    areas = (right - left) * (bottom - top), (other_right - other_left) * (other_bottom - other_top)
    union = np.add(*areas, out=height)
    union -= shared
    with np.errstate(divide="ignore", invalid="ignore"):  # of two empty boxes neither is the other's rival
        shared /= union
    found: NDArray[np.bool_] = shared > np.float32(iou)
    found &= ones.classes[:, np.newaxis] == others.classes
    return found


def _reach(iou: float) -> float:
    """Return the largest distance of the centres of two boxes with an IoU above `iou`, as a multiple of a box's side.

    Such boxes share more than `iou` of the longer side, and one side is at most 1 / `iou` times the other.
    """
    iou = max(iou, 1e-6)
    return max(1 - iou, (1 / iou - 1) / 2) + 0.01  # margin for rounding in float32


def _by_place(centres: NDArray[np.float32]) -> _Indices:
    """Return an order of `centres` (2, n) in which near ones are neighbours: column by column, down and up in turn."""
    low, high = centres.min(axis=1, keepdims=True), centres.max(axis=1, keepdims=True)
    columns, rows = ((centres - low) * (0.999 * _CELLS / np.maximum(high - low, 1e-6))).astype(np.int16)
    cells = columns * _CELLS + np.where(columns % 2, _CELLS - 1 - rows, rows)
    return np.argsort(cells, kind="stable")  # numpy sorts int16 by radix, in a tenth of the time
