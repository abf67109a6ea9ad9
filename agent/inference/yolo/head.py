"""Decodes a model's raw output to objects, by the output's layout."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.candidates import ROWS
from agent.inference.yolo.layouts import MAX_OBJECTS, Layout, recognise
from agent.inference.yolo.letterbox import Fit, Placement
from agent.inference.yolo.metadata import FileFacts, agreed_names
from agent.inference.yolo.objects import Objects
from agent.inference.yolo.plausible import Promise, oddity
from agent.inference.yolo.suppress import suppress
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

__all__ = ["Head", "Layout"]

_BOX: Final = 4
_SCORE: Final = 4
_STRIDES: Final = (8, 16, 32)

_Raw = NDArray[np.floating]


@dataclass(frozen=True)
class Head:
    """Decoder of one model's raw output; stateless, for any thread."""

    reference: str
    layout: Layout
    names: tuple[str, ...]
    """Labels by class index."""
    confidence: float
    """Least score of an object."""
    iou: float
    """Largest overlap (intersection over union) of two objects of a class."""
    shape: tuple[int, ...] = field(default=())
    """Shape of the raw output; -1 for an open side."""
    imgsz: tuple[int, int] = (640, 640)
    """Height and width of the input in pixels."""
    takes_bytes: bool = False
    """The input takes pixels as 0 to 255 instead of 0 to 1."""
    candidates: int = 0
    """Number of best candidates that the runtime selects itself (candidates.py); 0: it outputs all of `shape`."""

    @classmethod
    def of(cls, version: ModelVersion, facts: FileFacts, shape: Sequence[int], imgsz: tuple[int, int]) -> "Head":
        """Build the decoder; the layout follows from the catalog, else the file's metadata, else the output's shape.

        `shape` has -1 for an open side. Raises ModelError("unclear_layout") where two layouts are possible, and
        ModelError("proof_failed") where none is, or the counts of classes in catalog and file differ.
        """
        names = agreed_names(version, facts)
        layout = recognise(version, facts, shape, imgsz, len(names))
        takes_bytes = facts.takes_bytes or layout is Layout.GRID
        known = (version.reference, layout, names, version.confidence, version.iou)
        return cls(*known, tuple(shape), imgsz, takes_bytes)

    @property
    def fit(self) -> Fit:
        """Placement of a picture in the input, which the layout implies."""
        if self.layout in {Layout.QUERIES, Layout.QUERY_ROWS}:
            return Fit.STRETCHED
        return Fit.CORNER if self.layout is Layout.GRID else Fit.CENTRED

    @property
    def takes_bgr(self) -> bool:
        """True where the input's colour order is BGR, as OpenCV reads pictures; else RGB."""
        return self.layout is Layout.GRID

    def decode(self, raw: _Raw, placement: Placement) -> Objects:
        """Decode one raw output, float (1, ...), to objects in pixels of the picture.

        Only rows above the confidence threshold are checked: ModelError("proof_failed") where one holds NaN or
        infinity, or where the output has an unexpected shape.
        """
        self._require_shape(raw)
        return self._read(raw[0], placement)

    def strongest(self, raw: _Raw, placement: Placement) -> Objects:
        """Decode the strongest candidates of one raw output, whatever their score, and overlapping as they are."""
        return replace(self, confidence=0.0, iou=1.0).decode(raw, placement)

    def require_right(self, raw: _Raw) -> None:
        """Check every number of a raw output, float (1, ...).

        Raises ModelError("proof_failed") where one is NaN or infinite, and ModelError("implausible") where the numbers
        contradict the layout.
        """
        self._require_shape(raw)
        bad = raw.size - int(np.count_nonzero(np.isfinite(raw)))
        if bad:
            raise ModelError("proof_failed", f"{self.reference}: {bad} of {raw.size} numbers are NaN or infinite")
        layout, seen = (Layout.ANCHORS, raw[0, : _SCORE + 1]) if self.candidates else (self.layout, raw[0])
        odd = oddity(seen, Promise(layout, self.imgsz, len(self.names), self.confidence))
        if odd is not None:
            raise ModelError("implausible", f"{self.reference}: {odd}; it was read as {self.layout.value}")

    @cached_property
    def _read(self) -> Callable[[_Raw, Placement], Objects]:
        if self.candidates:
            return self._from_candidates
        return {
            Layout.ANCHORS: self._from_anchors,
            Layout.OBJECTNESS: self._from_objectness,
            Layout.END_TO_END: self._from_rows,
            Layout.QUERIES: self._from_queries,
            Layout.QUERY_ROWS: self._from_rows,
            Layout.GRID: self._from_grid,
        }[self.layout]

    def _require_shape(self, raw: _Raw) -> None:
        shape = (1, ROWS, self.candidates) if self.candidates else self.shape
        if raw.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, raw.shape, strict=True)):
            return
        raise ModelError("proof_failed", f"{self.reference}: answered {raw.shape}, expected {shape}")

    def _from_candidates(self, raw: _Raw, placement: Placement) -> Objects:
        rows = self._finite(raw[:, ~(raw[_SCORE] <= self.confidence)])
        classes = rows[_SCORE + 1].astype(np.int32)
        self._require_classes(classes)
        return self._suppressed(_corners(rows[:_BOX].T), rows[_SCORE], classes, placement)

    def _from_anchors(self, raw: _Raw, placement: Placement) -> Objects:
        best = raw[_BOX:].max(axis=0)
        # NaN is greater than nothing: `not <=` lets it through to the check of candidates.
        columns = np.flatnonzero(~(best <= self.confidence))
        scores = self._finite(best[columns])  # the greatest of scores is NaN where one of them is
        boxes = self._finite(np.take(raw[:_BOX], columns, axis=1)).T
        classes = raw[_BOX:, columns].argmax(axis=0)
        return self._suppressed(_corners(boxes), scores, classes, placement)

    def _from_objectness(self, raw: _Raw, placement: Placement) -> Objects:
        is_likely = ~(raw[:, _BOX] <= self.confidence)
        likely = raw if is_likely.all() else raw[is_likely]  # a copy of all of it takes as long as all that follows
        classes = likely[:, _BOX + 1 :].argmax(axis=1)
        best = self._finite(likely[np.arange(len(likely)), _BOX + 1 + classes]) * self._finite(likely[:, _BOX])
        rows = np.flatnonzero(best > self.confidence)
        boxes = self._finite(np.take(likely[:, :_BOX].T, rows, axis=1)).T
        return self._suppressed(_corners(boxes), best[rows], classes[rows], placement)

    def _from_grid(self, raw: _Raw, placement: Placement) -> Objects:
        """Decode YOLOX's output: centres as offsets from cells, sizes as logarithms, both in units of the stride."""
        origins, strides = grid(self.imgsz)
        with np.errstate(over="ignore"):  # a candidate that is infinite is refused
            sizes = np.exp(raw[:, 2:_BOX]) * strides
        boxes = np.concatenate(((raw[:, :2] + origins) * strides, sizes), axis=1)
        return self._from_objectness(np.concatenate((boxes, raw[:, _BOX:]), axis=1), placement)

    def _suppressed(
        self,
        corners: NDArray[np.float32],
        scores: NDArray[np.float32],
        classes: NDArray[np.integer],
        placement: Placement,
    ) -> Objects:
        """Return the objects left by suppression; `corners` is (n, 4) in pixels of the input."""
        kept = suppress(corners, scores, classes, self.iou)
        return Objects(placement.to_picture(corners[kept]), scores[kept], classes[kept].astype(np.int32))

    def _from_queries(self, raw: _Raw, placement: Placement) -> Objects:
        rows = self._finite(raw[~(raw[:, _BOX:].max(axis=1) <= self.confidence)])
        scores = rows[:, _BOX:]
        best, classes = scores.max(axis=1), scores.argmax(axis=1).astype(np.int32)
        order = np.argsort(-best, kind="stable")[:MAX_OBJECTS]
        return Objects(placement.from_shares(_corners(rows[order, :_BOX])), best[order], classes[order])

    def _from_rows(self, raw: _Raw, placement: Placement) -> Objects:
        rows = self._finite(raw[~(raw[:, _SCORE] <= self.confidence)])
        rows = rows[np.argsort(-rows[:, _SCORE], kind="stable")[:MAX_OBJECTS]]
        classes = rows[:, _SCORE + 1].astype(np.int32)
        self._require_classes(classes)
        boxes = rows[:, :_BOX]
        is_query = self.layout is Layout.QUERY_ROWS
        placed = placement.from_shares(_corners(boxes)) if is_query else placement.to_picture(boxes)
        return Objects(placed, rows[:, _SCORE].copy(), classes)

    def _require_classes(self, classes: NDArray[np.int32]) -> None:
        if classes.size and not 0 <= classes.min() <= classes.max() < len(self.names):
            what = f"answered class {classes.max()} of {len(self.names)} classes"
            raise ModelError("proof_failed", f"{self.reference}: {what}")

    def _finite(self, candidates: _Raw) -> NDArray[np.float32]:
        if not np.isfinite(candidates).all():
            raise ModelError("proof_failed", f"{self.reference}: NaN or infinity among the candidates")
        return candidates.astype(np.float32)


def grid(imgsz: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return all cells of an input in YOLOX's order: column and row, float32 (n, 2), and stride, float32 (n, 1)."""
    origins, strides = [], []
    for stride in _STRIDES:
        rows, columns = np.mgrid[: imgsz[0] // stride, : imgsz[1] // stride]
        origins.append(np.column_stack((columns.ravel(), rows.ravel())))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(origins).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Convert centres and sizes (n, 4) to corners (n, 4), by columns, because four long sums are faster."""
    columns = np.ascontiguousarray(boxes.T)
    half = columns[2:] / 2
    corners: NDArray[np.float32] = np.concatenate((columns[:2] - half, columns[:2] + half)).T
    return corners
