"""Non-maximum suppression, class by class, as ultralytics does it, in time that follows what is kept."""

from collections.abc import Callable, Iterator
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

MAX_CANDIDATES: Final = 30_000
MAX_OBJECTS: Final = 300
_BEST: Final = 1024  # sorted first
_CHUNK: Final = 256  # rivals of each other compared at once: that takes the square of it
_MOST: Final = 1024  # compared at once to those that are kept


class Classes(Protocol):
    """The class of each candidate: an array, or Labels."""

    def __getitem__(self, at: NDArray[np.intp], /) -> NDArray[np.int32]:
        """Return the classes of the candidates `at`."""


class Labels:
    """Classes that are found once somebody asks, as most candidates are never looked at. One thread at a time."""

    def __init__(self, find: Callable[[NDArray[np.intp]], NDArray[np.intp]], count: int) -> None:
        self._find: Final = find
        self._known: Final = np.full(count, -1, np.int32)

    def __getitem__(self, at: NDArray[np.intp]) -> NDArray[np.int32]:
        new = at[self._known[at] < 0]
        if new.size:
            self._known[new] = self._find(new)
        classes: NDArray[np.int32] = self._known[at]
        return classes


def suppress(boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: Classes, iou: float) -> NDArray[np.intp]:
    """Return the indices that stay, by score, greatest first, at most MAX_OBJECTS.

    Of two boxes (x1, y1, x2, y2) of one class whose overlap is greater than `iou`, the one with the lower score goes.
    Candidates are looked at in blocks, the best first, and no more once MAX_OBJECTS are kept.
    """
    kept = _Kept(boxes, classes, iou)
    for order in _by_score(scores):
        start, size = 0, _CHUNK
        while start < len(order) and kept.count < MAX_OBJECTS:
            kept.add(order[start : start + size])
            start, size = start + size, min(2 * size, _MOST)
        if kept.count == MAX_OBJECTS:
            break
    return kept.indices()


def _by_score(scores: NDArray[np.float32]) -> Iterator[NDArray[np.intp]]:
    """Yield the best candidates in their order, then the others up to MAX_CANDIDATES; the first of equals comes first.

    Mostly the best are enough, and to sort all of many takes longer than all that follows.
    """
    if len(scores) <= 2 * _BEST:
        yield np.argsort(-scores, kind="stable")
        return
    least = np.partition(scores, -_BEST)[-_BEST]
    best, others = np.flatnonzero(scores >= least), np.flatnonzero(scores < least)
    yield best[np.argsort(-scores[best], kind="stable")][:MAX_CANDIDATES]
    yield others[np.argsort(-scores[others], kind="stable")][: max(0, MAX_CANDIDATES - len(best))]


class _Kept:
    """Boxes kept so far; each candidate is compared with them and with its own block."""

    def __init__(self, boxes: NDArray[np.float32], classes: Classes, iou: float) -> None:
        self._edges: Final = np.ascontiguousarray(boxes.T, np.float32)
        self._classes: Final = classes
        self._iou: Final = np.float32(iou)
        self._indices: Final = np.empty(MAX_OBJECTS, np.intp)
        self.count = 0

    def indices(self) -> NDArray[np.intp]:
        kept: NDArray[np.intp] = self._indices[: self.count].copy()
        return kept

    def add(self, block: NDArray[np.intp]) -> None:
        """Keep those of `block`, sorted by score, that nothing of greater score overlaps."""
        left, before = block, 0
        while len(left) and self.count < MAX_OBJECTS:
            left = self._without_rivals(left, before)
            before = self.count
            self._add_chunk(left[:_CHUNK])
            left = left[_CHUNK:]

    def _without_rivals(self, candidates: NDArray[np.intp], first: int) -> NDArray[np.intp]:
        """Leave out what overlaps one that was kept as the `first` or later."""
        if first == self.count or not len(candidates):
            return candidates
        return candidates[~self._overlaps(candidates, self._indices[first : self.count]).any(axis=1)]

    def _add_chunk(self, chunk: NDArray[np.intp]) -> None:
        beats = self._overlaps(chunk, chunk)
        stays = np.ones(len(chunk), bool)
        for at in range(len(chunk)):
            if stays[at]:
                stays[at + 1 :] &= ~beats[at, at + 1 :]
        kept = chunk[stays][: MAX_OBJECTS - self.count]
        self._indices[self.count : self.count + len(kept)] = kept
        self.count += len(kept)

    def _overlaps(self, ones: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Say, (ones, others), which are of one class and share more than `iou` of their area; in float32, as torch."""
        left, top, right, bottom = self._edges[:, ones, np.newaxis]
        other_left, other_top, other_right, other_bottom = self._edges[:, np.newaxis, others]
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
        found: NDArray[np.bool_] = shared > self._iou
        np.logical_and(found, self._classes[ones][:, np.newaxis] == self._classes[others], out=found)
        return found
