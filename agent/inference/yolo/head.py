"""Decodes a model's raw output to objects, by the output's layout."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.inference.ends import packs
from agent.inference.ends.packs import LAYOUTS, Pack
from agent.inference.ends.pixels import Pixels
from agent.inference.yolo.layouts import FORMS, MAX_OBJECTS, Layout, Shapes, task_of, word_of
from agent.inference.yolo.letterbox import Fit, Placement
from agent.inference.yolo.masks import Masks
from agent.inference.yolo.metadata import FileFacts, agreed_names
from agent.inference.yolo.objects import Objects, Words, further_of, no_objects
from agent.inference.yolo.plausible import Promise, oddity
from agent.inference.yolo.recognition import keypoints, recognise
from agent.inference.yolo.suppression import turned
from agent.inference.yolo.suppression.best import ROWS
from agent.inference.yolo.suppression.upright import suppress
from agent.messages.errors import ModelError
from agent.messages.references import ModelReading, ModelVersion, Task

__all__ = ["Head", "Layout", "Raw"]

_BOX: Final = 4
_SCORE: Final = 4
_ROW: Final = 6
_XYS: Final = 3  # x, y, score
_STRIDES: Final = (8, 16, 32)
_TOP: Final = 5
"""Most classes of a whole picture that are told."""

Raw = tuple[NDArray[np.floating], ...]
"""Raw outputs, each (1, ...), in the order that the layout reads them."""
_Rows = NDArray[np.floating]


class _Found(NamedTuple):
    """Candidates of one picture: boxes (n, 4) as the output has them, scores (n,), classes (n,), further numbers."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.integer]
    extras: NDArray[np.float32]

    def at(self, indices: NDArray[np.intp]) -> "_Found":
        return _Found(self.boxes[indices], self.scores[indices], self.classes[indices], self.extras[indices])


@dataclass(frozen=True)
class Head:
    """Decoder of one model's raw outputs; stateless, for any thread."""

    reference: str
    layout: Layout
    names: tuple[str, ...]
    """Labels by class index."""
    confidence: float
    """Least score of an object."""
    iou: float
    """Largest overlap (intersection over union) of two objects of a class."""
    shapes: tuple[tuple[int, ...], ...] = field(default=())
    """Shapes of the raw outputs; -1 for an open side."""
    imgsz: tuple[int, int] = (640, 640)
    """Height and width of the input in pixels."""
    pixels: Pixels = field(default_factory=Pixels)
    """Conversion of a picture to the input."""
    pack: Pack | None = None
    """Kind in which the file splits its output; None where it does not."""
    is_bare: bool = False
    """Masks are not decoded; objects have the numbers that are in their place, and those of all tasks."""
    candidates: int = 0
    """Number of best candidates that the runtime selects itself (best.py); 0: it outputs all of `shapes`."""
    outputs: tuple[int, ...] = (0,)
    """Numbers of the file's outputs that are read, in the layout's order."""
    points: tuple[int, int] = (0, 0)
    """Number of keypoints, and of their numbers."""
    point_names: tuple[str, ...] = ()
    """Names of the keypoints, in their order; empty where the file has none."""

    @classmethod
    def of(cls, version: ModelVersion, facts: FileFacts, shapes: Shapes, imgsz: tuple[int, int]) -> "Head":
        """Build the decoder; the layout follows from the catalog, else the file's metadata, else the outputs' shapes.

        `shapes` are those of all outputs, with -1 for an open side. Raises ModelError("unclear_layout") where two
        layouts are possible, and ModelError("proof_failed") where none is, or the counts of classes in catalog and file
        differ.
        """
        names = agreed_names(version, facts)
        pack = Pack[facts.pack] if facts.pack else None
        if pack:
            packs.require_detecting(version)
        layout, outputs = (LAYOUTS[pack], (0,)) if pack else recognise(version, facts, shapes, imgsz, len(names))
        read = tuple(tuple(shapes[number]) for number in outputs)
        points, point_names = keypoints(version, facts, layout, read[0], len(names))
        return cls(
            version.reference,
            layout,
            names,
            version.confidence,
            version.iou,
            read,
            imgsz,
            Pixels.of(version.preprocess, layout, pack, imgsz, takes_bytes=facts.takes_bytes),
            pack,
            outputs=outputs,
            points=points,
            point_names=point_names,
        )

    @cached_property
    def task(self) -> Task:
        """The task whose results the model gives."""
        return "detect" if self.pack else task_of(self.layout)

    @property
    def reading(self) -> ModelReading:
        """Task, layout and keypoints in the words of the catalog and of `meta`."""
        word = packs.word_of(self.pack) if self.pack else word_of(self.layout)
        return ModelReading(self.task, word, self.point_names)

    @property
    def fit(self) -> Fit:
        """Placement of a picture in the input."""
        return self.pixels.fit

    @property
    def takes_bgr(self) -> bool:
        """True where the input's colour order is BGR, as OpenCV reads pictures; else RGB."""
        return self.pixels.is_bgr

    def decode(self, raw: Raw, placement: Placement) -> Objects:
        """Decode one picture's raw outputs to objects in pixels of the picture.

        Only rows above the confidence threshold are checked: ModelError("proof_failed") where one holds NaN or
        infinity, or where an output has an unexpected shape.
        """
        self._require_shapes(raw)
        return self._read(raw, placement)

    def strongest(self, raw: Raw, placement: Placement) -> Objects:
        """Decode the strongest candidates as upright boxes, whatever their score, and overlapping as they are.

        They have their further numbers, but no masks. The classes of a whole picture are given as empty boxes.
        """
        if self.task == "classify":
            scores = self._finite(raw[0][0])
            order = np.argsort(-scores, kind="stable")[:MAX_OBJECTS]
            return Objects(np.zeros((len(order), _BOX), np.float32), scores[order], order.astype(np.int32))
        return replace(self, confidence=0.0, iou=1.0, is_bare=True).decode(raw, placement)

    def require_right(self, raw: Raw) -> None:
        """Check every number of a picture's raw outputs.

        Raises ModelError("proof_failed") where one is NaN or infinite, and ModelError("implausible") where the numbers
        contradict the layout.
        """
        self._require_shapes(raw)
        size = sum(one.size for one in raw)
        bad = size - sum(int(np.count_nonzero(np.isfinite(one))) for one in raw)
        if bad:
            raise ModelError("proof_failed", f"{self.reference}: {bad} of {size} numbers are NaN or infinite")
        layout, seen = (Layout.ANCHORS, raw[0][0, : _SCORE + 1]) if self.candidates else (self.layout, raw[0][0])
        odd = oddity(seen, Promise(layout, self.imgsz, len(self.names), self.confidence, self.points))
        if odd is not None:
            raise ModelError("implausible", f"{self.reference}: {odd}; it was read as {self.layout.value}")

    def parts(self, raw: Raw) -> tuple[NDArray[np.floating], ...]:
        """Split raw outputs into numbers of one scale each, so that two models' can be compared.

        Rows sorted by score give their scores only, because rounding may change the order.
        """
        first, *others = raw
        form, end = FORMS.get(self.layout), _BOX + len(self.names)
        if form == "rows" or self.layout in {Layout.QUERY_ROWS, Layout.SHARE_ROWS}:
            return (np.sort(first[..., _SCORE].ravel()), *others)
        if form == "classes":
            return (first, *others)
        ends = (_BOX, end + (form != "columns"))
        parts = np.split(first, ends, axis=1 if form == "columns" else -1)
        return (*(part for part in parts if part.size), *others)

    @cached_property
    def _read(self) -> Callable[[Raw, Placement], Objects]:
        if self.candidates:
            return self._from_candidates
        match FORMS.get(self.layout):
            case "columns":
                return self._from_columns
            case "objectness":
                return self._from_objectness
            case "rows":
                return self._from_rows
            case "classes":
                return self._from_classes
            case _:
                return {
                    Layout.QUERIES: self._from_queries,
                    Layout.QUERY_ROWS: self._from_query_rows,
                    Layout.SHARE_ROWS: self._from_share_rows,
                    Layout.GRID: self._from_grid,
                }[self.layout]

    def _require_shapes(self, raw: Raw) -> None:
        shapes = ((1, ROWS, self.candidates),) if self.candidates else self.shapes
        if len(raw) == len(shapes) and all(_has_shape(*pair) for pair in zip(raw, shapes, strict=True)):
            return
        got = " and ".join(str(one.shape) for one in raw)
        raise ModelError("proof_failed", f"{self.reference}: answered {got}, expected {' and '.join(map(str, shapes))}")

    def _from_candidates(self, raw: Raw, placement: Placement) -> Objects:
        rows = self._finite(raw[0][0][:, ~(raw[0][0][_SCORE] <= self.confidence)])
        classes = rows[_SCORE + 1].astype(np.int32)
        self._require_classes(classes)
        return self._suppressed(_Found(rows[:_BOX].T, rows[_SCORE], classes, rows[_ROW:].T), raw, placement)

    def _from_columns(self, raw: Raw, placement: Placement) -> Objects:
        columns_of, end = raw[0][0], _BOX + len(self.names)
        best = columns_of[_BOX:end].max(axis=0)
        # NaN is greater than nothing: `not <=` lets it through to the check of candidates.
        columns = np.flatnonzero(~(best <= self.confidence))
        scores = self._finite(best[columns])  # the greatest of scores is NaN where one of them is
        boxes = self._finite(np.take(columns_of[:_BOX], columns, axis=1)).T
        classes = columns_of[_BOX:end, columns].argmax(axis=0)
        has_extras = end < len(columns_of)
        extras = self._finite(np.take(columns_of[end:], columns, axis=1)).T if has_extras else boxes[:, _BOX:]
        return self._suppressed(_Found(boxes, scores, classes, extras), raw, placement)

    def _from_objectness(self, raw: Raw, placement: Placement) -> Objects:
        return self._of_likely(raw[0][0], raw, placement)

    def _of_likely(self, rows: _Rows, raw: Raw, placement: Placement) -> Objects:
        """Decode the rows of a head that scores any object, and each class."""
        end = _BOX + 1 + len(self.names)
        is_likely = ~(rows[:, _BOX] <= self.confidence)
        likely = rows if is_likely.all() else rows[is_likely]  # a copy of all of it takes as long as all that follows
        classes = likely[:, _BOX + 1 : end].argmax(axis=1)
        best = self._finite(likely[np.arange(len(likely)), _BOX + 1 + classes]) * self._finite(likely[:, _BOX])
        sure = np.flatnonzero(best > self.confidence)
        boxes = self._finite(np.take(likely[:, :_BOX].T, sure, axis=1)).T
        extras = self._finite(likely[sure, end:])
        return self._suppressed(_Found(boxes, best[sure], classes[sure], extras), raw, placement)

    def _from_grid(self, raw: Raw, placement: Placement) -> Objects:
        """Decode YOLOX's output: centres as offsets from cells, sizes as logarithms, both in units of the stride."""
        likely = np.flatnonzero(~(raw[0][0][:, _BOX] <= self.confidence))
        cells = raw[0][0][likely]
        origins, strides = (of_all[likely] for of_all in self._grid)
        with np.errstate(over="ignore"):  # a candidate that is infinite is refused
            sizes = np.exp(cells[:, 2:_BOX]) * strides
        boxes = np.concatenate(((cells[:, :2] + origins) * strides, sizes), axis=1)
        return self._of_likely(np.concatenate((boxes, cells[:, _BOX:]), axis=1), raw, placement)

    @cached_property
    def _grid(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return grid(self.imgsz)

    def _suppressed(self, found: _Found, raw: Raw, placement: Placement) -> Objects:
        """Return the objects left by suppression; boxes are centres and sizes, in pixels of the input."""
        if not len(found.scores):  # most frames of many cameras, and half of the time that their decoding takes
            return self._completed(found, raw, placement)
        if self.task == "obb":
            boxes = np.concatenate((found.boxes, found.extras), axis=1)
            with np.errstate(over="ignore", invalid="ignore"):  # what is no number is refused
                kept = turned.suppress(boxes, found.scores, found.classes, self.iou)
            return self._completed(found.at(kept), raw, placement)
        corners = self._finite(_corners(found.boxes))
        kept = suppress(corners, found.scores, found.classes, self.iou)
        return self._completed(found._replace(boxes=corners).at(kept), raw, placement)

    def _completed(self, found: _Found, raw: Raw, placement: Placement) -> Objects:
        told = self._told(found, raw, placement)
        return replace(told, further=further_of(found.extras, found.boxes, self.points)) if self.is_bare else told

    def _told(self, found: _Found, raw: Raw, placement: Placement) -> Objects:
        """Add what the model's task has beside boxes, and bring all of it to pixels of the picture."""
        classes = found.classes.astype(np.int32)
        match self.task:
            case "segment" if not self.is_bare:
                masks = Masks(raw[1][0], self.imgsz)
                polygons = masks.polygons(found.extras, found.boxes, placement)
                kept = [number for number, rings in enumerate(polygons) if rings]  # as in ultralytics
                boxes = placement.to_picture(found.boxes[kept])
                return Objects(boxes, found.scores[kept], classes[kept], tuple(polygons[number] for number in kept))
            case "pose":
                boxes = placement.to_picture(found.boxes)
                return Objects(boxes, found.scores, classes, keypoints=self._keypoints(found.extras, placement))
            case "obb":
                with np.errstate(over="ignore", invalid="ignore"):
                    corners = self._finite(placement.points(turned.corners_of(found.boxes, found.extras[:, 0])))
                hulls = np.concatenate((corners.min(axis=1), corners.max(axis=1)), axis=1).reshape(-1, 2, 2)
                return Objects(placement.within(hulls).reshape(-1, _BOX), found.scores, classes, corners=corners)
            case _:
                return Objects(placement.to_picture(found.boxes), found.scores, classes)

    def _keypoints(self, numbers: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
        """Return keypoints (n, points, 3); those of a model without scores have score 1."""
        count, size = self.points
        told = numbers.reshape(-1, count, size)
        points = np.ones((len(told), count, _XYS), np.float32)
        points[..., :2] = placement.within(placement.points(told[..., :2]))
        points[..., 2:size] = told[..., 2:]
        return points

    def _from_queries(self, raw: Raw, placement: Placement) -> Objects:
        rows = raw[0][0]
        rows = self._finite(rows[~(rows[:, _BOX:].max(axis=1) <= self.confidence)])
        scores = rows[:, _BOX:]
        best, classes = scores.max(axis=1), scores.argmax(axis=1).astype(np.int32)
        order = np.argsort(-best, kind="stable")[:MAX_OBJECTS]
        boxes = self._from_shares(_corners(rows[order, :_BOX]), placement)
        return Objects(boxes, best[order], classes[order])

    def _from_query_rows(self, raw: Raw, placement: Placement) -> Objects:
        found = self._best_rows(raw[0][0])
        boxes = self._from_shares(_corners(found.boxes), placement)
        return Objects(boxes, found.scores, found.classes.astype(np.int32))

    def _from_share_rows(self, raw: Raw, placement: Placement) -> Objects:
        found = self._best_rows(raw[0][0])
        return Objects(self._from_shares(found.boxes, placement), found.scores, found.classes.astype(np.int32))

    def _from_shares(self, boxes: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
        """Map corners (n, 4) in shares of the input to pixels of the picture, however it was placed there."""
        return placement.to_picture(boxes * np.array((self.imgsz[1], self.imgsz[0]) * 2, np.float32))

    def _from_rows(self, raw: Raw, placement: Placement) -> Objects:
        return self._completed(self._best_rows(raw[0][0]), raw, placement)

    def _best_rows(self, rows: _Rows) -> _Found:
        rows = self._finite(rows[~(rows[:, _SCORE] <= self.confidence)])
        rows = rows[np.argsort(-rows[:, _SCORE], kind="stable")[:MAX_OBJECTS]]
        classes = rows[:, _SCORE + 1].astype(np.int32)
        self._require_classes(classes)
        return _Found(rows[:, :_BOX], rows[:, _SCORE].copy(), classes, rows[:, _ROW:])

    def _from_classes(self, raw: Raw, _: Placement) -> Objects:
        scores = self._finite(raw[0][0])
        if self.layout is Layout.LOGITS:
            powers = np.exp(scores - scores.max())
            scores = powers / powers.sum()
        best = np.argsort(-scores, kind="stable")[:_TOP]
        return no_objects(Words(scores[best], best.astype(np.int32)))

    def _require_classes(self, classes: NDArray[np.int32]) -> None:
        if classes.size and not 0 <= classes.min() <= classes.max() < len(self.names):
            what = f"answered class {classes.max()} of {len(self.names)} classes"
            raise ModelError("proof_failed", f"{self.reference}: {what}")

    def _finite(self, candidates: _Rows) -> NDArray[np.float32]:
        if not np.isfinite(candidates).all():
            raise ModelError("proof_failed", f"{self.reference}: NaN or infinity among the candidates")
        return candidates.astype(np.float32)


def _has_shape(raw: _Rows, shape: tuple[int, ...]) -> bool:
    return raw.ndim == len(shape) and all(want in {-1, got} for want, got in zip(shape, raw.shape, strict=True))


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
    with np.errstate(over="ignore"):  # a corner that is infinite is refused, or cut at the picture's edge
        corners: NDArray[np.float32] = np.concatenate((columns[:2] - half, columns[:2] + half)).T
    return corners
