"""From a model's raw output to objects: which layout it is, and how to read it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.letterbox import Placement
from agent.inference.yolo.metadata import FileFacts, agreed_names
from agent.inference.yolo.objects import Objects
from agent.inference.yolo.suppress import MAX_OBJECTS, suppress
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_BOX: Final = 4
_ROW: Final = 6  # x1, y1, x2, y2, score, class
_SCORE: Final = 4
_QUERY_HEAD: Final = "RTDETRDecoder"


class Layout(Enum):
    """What the raw output holds."""

    ANCHORS = "(1, 4 + classes, anchors): centre and size, a score a class (v5u, v8, v9, 11, 12)"
    OBJECTNESS = "(1, anchors, 5 + classes): centre and size, a score for any object, one a class (v5)"
    END_TO_END = "(1, objects, 6): corners, score, class (v10, 26)"
    QUERIES = "(1, queries, 4 + classes): centre and size in shares of the picture, a score a class (RT-DETR)"
    QUERY_ROWS = "(1, queries, 6): centre and size in shares of the picture, score, class (RT-DETR since 2026)"


@dataclass(frozen=True)
class Head:
    """Decodes one model's output. Stateless: any thread."""

    reference: str
    layout: Layout
    names: tuple[str, ...]
    confidence: float
    iou: float
    shape: tuple[int, ...] = field(default=())

    @classmethod
    def of(cls, version: ModelVersion, facts: FileFacts, shape: Sequence[int]) -> "Head":
        """Recognise the layout by the output's shape (-1 where open) and what catalog and file say.

        Raises ModelError("proof_failed") for any other shape, and for a count of classes that differs.
        """
        names = agreed_names(version, facts)
        layout = _layout(version, shape, len(names), facts)
        names = names or _numbered(version, layout, shape)
        return cls(version.reference, layout, names, version.confidence, version.iou, tuple(shape))

    @property
    def is_stretched(self) -> bool:
        """Say whether pictures fill the input, whatever their shape, instead of being letterboxed."""
        return self.layout in {Layout.QUERIES, Layout.QUERY_ROWS}

    def decode(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        """Read one raw output, float (1, ...), into objects in pixels of the picture; touches candidates only.

        Raises ModelError("proof_failed") where a candidate holds NaN or infinity, or the output has another shape.
        """
        self._require_shape(raw)
        if self.layout is Layout.ANCHORS:
            return self._from_anchors(raw[0], placement)
        if self.layout is Layout.OBJECTNESS:
            return self._from_objectness(raw[0], placement)
        if self.layout is Layout.QUERIES:
            return self._from_queries(raw[0], placement)
        return self._from_rows(raw[0], placement)

    def require_finite(self, raw: NDArray[np.floating]) -> None:
        """Look at every number; raises ModelError("proof_failed") where one is NaN or infinite."""
        self._require_shape(raw)
        bad = raw.size - int(np.count_nonzero(np.isfinite(raw)))
        if bad:
            raise ModelError("proof_failed", f"{self.reference}: {bad} of {raw.size} numbers are NaN or infinite")

    def _require_shape(self, raw: NDArray[np.floating]) -> None:
        if raw.ndim == len(self.shape) and all(
            want in (-1, got) for want, got in zip(self.shape, raw.shape, strict=True)
        ):
            return
        raise ModelError("proof_failed", f"{self.reference}: answered {raw.shape}, expected {self.shape}")

    def _from_anchors(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        # NaN is greater than nothing: `not <=` lets it through to the check of candidates.
        columns = np.flatnonzero(~(raw[_BOX:].max(axis=0) <= self.confidence))
        candidates = self._finite(raw[:, columns])
        return self._suppressed(candidates[:_BOX].T, candidates[_BOX:].T, placement)

    def _from_objectness(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        likely = self._finite(raw[~(raw[:, _BOX] <= self.confidence)])
        scores = likely[:, _BOX + 1 :] * likely[:, _BOX : _BOX + 1]
        kept = scores.max(axis=1) > self.confidence
        return self._suppressed(likely[kept, :_BOX], scores[kept], placement)

    def _suppressed(self, boxes: NDArray[np.float32], scores: NDArray[np.float32], placement: Placement) -> Objects:
        """Read boxes (n, 4), centre and size in pixels of the input, and scores (n, classes)."""
        classes = scores.argmax(axis=1).astype(np.int32)
        best = scores.max(axis=1)
        corners = _corners(boxes)
        kept = suppress(corners, best, classes, self.iou)
        return Objects(placement.to_picture(corners[kept]), best[kept], classes[kept])

    def _from_queries(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        rows = self._finite(raw[~(raw[:, _BOX:].max(axis=1) <= self.confidence)])
        scores = rows[:, _BOX:]
        best, classes = scores.max(axis=1), scores.argmax(axis=1).astype(np.int32)
        order = np.argsort(-best, kind="stable")[:MAX_OBJECTS]
        return Objects(placement.from_shares(_corners(rows[order, :_BOX])), best[order], classes[order])

    def _from_rows(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        rows = self._finite(raw[~(raw[:, _SCORE] <= self.confidence)])
        rows = rows[np.argsort(-rows[:, _SCORE], kind="stable")[:MAX_OBJECTS]]
        classes = rows[:, _SCORE + 1].astype(np.int32)
        if classes.size and not 0 <= classes.min() <= classes.max() < len(self.names):
            what = f"answered class {classes.max()} of {len(self.names)} classes"
            raise ModelError("proof_failed", f"{self.reference}: {what}")
        boxes = rows[:, :_BOX]
        is_query = self.layout is Layout.QUERY_ROWS
        placed = placement.from_shares(_corners(boxes)) if is_query else placement.to_picture(boxes)
        return Objects(placed, rows[:, _SCORE].copy(), classes)

    def _finite(self, candidates: NDArray[np.floating]) -> NDArray[np.float32]:
        if not np.isfinite(candidates).all():
            raise ModelError("proof_failed", f"{self.reference}: NaN or infinity among the candidates")
        return candidates.astype(np.float32)


def _corners(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn centre and size (n, 4) into corners."""
    half = boxes[:, 2:] / 2
    return np.concatenate((boxes[:, :2] - half, boxes[:, :2] + half), axis=1)


def _layout(version: ModelVersion, shape: Sequence[int], classes: int, facts: FileFacts) -> Layout:
    known = f"{version.reference}: the output is {tuple(shape)}"
    if len(shape) != 3 or shape[0] not in (-1, 1):  # noqa: PLR2004 - batch, and two more
        raise ModelError("proof_failed", f"{known}; a detection model answers {_expected()}")
    found = _rows(shape, classes, facts) if shape[2] == _ROW else None
    found = found or _by_classes(shape, classes, facts)
    if found is None:
        raise ModelError("proof_failed", f"{known}, with {classes or 'no'} class names; expected {_expected()}")
    return found


def _rows(shape: Sequence[int], classes: int, facts: FileFacts) -> Layout | None:
    """Tell rows of six from others that have six columns: v5 with one class (thousands of them), RT-DETR with two."""
    if facts.head == _QUERY_HEAD:
        return Layout.QUERY_ROWS
    if facts.end2end is False and _BOX + classes == _ROW:
        return None
    return Layout.END_TO_END if facts.end2end or _BOX + classes != shape[1] <= MAX_OBJECTS else None


def _by_classes(shape: Sequence[int], classes: int, facts: FileFacts) -> Layout | None:
    if facts.end2end:
        return None
    are_many = shape[1] > MAX_OBJECTS or shape[1] < 0
    if not classes:
        return Layout.ANCHORS if _BOX < shape[1] < shape[2] else None
    if shape[1] == _BOX + classes:
        return Layout.ANCHORS
    if shape[2] == _BOX + 1 + classes and are_many:
        return Layout.OBJECTNESS
    return Layout.QUERIES if shape[2] == _BOX + classes and not are_many else None


def _numbered(version: ModelVersion, layout: Layout, shape: Sequence[int]) -> tuple[str, ...]:
    """Name classes that nobody names, where the shape says how many there are."""
    if layout is not Layout.ANCHORS:
        raise ModelError(
            "load_failed", f"{version.reference}: the file names no classes; give `classes` in the catalog"
        )
    return tuple(f"class{index}" for index in range(shape[1] - _BOX))


def _expected() -> str:
    return " or ".join(layout.value for layout in Layout)
