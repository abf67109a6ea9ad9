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


class Layout(Enum):
    """What the raw output holds."""

    ANCHORS = "(1, 4 + classes, anchors): centre and size, a score a class (v8, v9, 11, 12)"
    END_TO_END = "(1, objects, 6): corners, score, class (v10, 26)"


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
        if not names and layout is Layout.END_TO_END:
            raise ModelError(
                "load_failed", f"{version.reference}: the file names no classes; give `classes` in the catalog"
            )
        names = names or tuple(f"class{index}" for index in range(shape[1] - _BOX))
        return cls(version.reference, layout, names, version.confidence, version.iou, tuple(shape))

    def decode(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        """Read one raw output, float (1, ...), into objects in pixels of the picture; touches candidates only.

        Raises ModelError("proof_failed") where a candidate holds NaN or infinity, or the output has another shape.
        """
        self._require_shape(raw)
        if self.layout is Layout.ANCHORS:
            return self._from_anchors(raw[0], placement)
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
        best = raw[_BOX:].max(axis=0)
        # NaN is greater than nothing: `not <=` lets it through to the check below.
        columns = np.flatnonzero(~(best <= self.confidence))
        candidates = self._finite(raw[:, columns])
        classes = candidates[_BOX:].argmax(axis=0).astype(np.int32)
        scores = candidates[_BOX:].max(axis=0)
        half = candidates[2:_BOX] / 2
        boxes = np.concatenate((candidates[:2] - half, candidates[:2] + half)).T
        kept = suppress(boxes, scores, classes, self.iou)
        return Objects(placement.to_picture(boxes[kept]), scores[kept], classes[kept])

    def _from_rows(self, raw: NDArray[np.floating], placement: Placement) -> Objects:
        rows = self._finite(raw[~(raw[:, _SCORE] <= self.confidence)])
        rows = rows[np.argsort(-rows[:, _SCORE], kind="stable")[:MAX_OBJECTS]]
        classes = rows[:, _SCORE + 1].astype(np.int32)
        if classes.size and not 0 <= classes.min() <= classes.max() < len(self.names):
            what = f"answered class {classes.max()} of {len(self.names)} classes"
            raise ModelError("proof_failed", f"{self.reference}: {what}")
        return Objects(placement.to_picture(rows[:, :_BOX]), rows[:, _SCORE].copy(), classes)

    def _finite(self, candidates: NDArray[np.floating]) -> NDArray[np.float32]:
        if not np.isfinite(candidates).all():
            raise ModelError("proof_failed", f"{self.reference}: NaN or infinity among the candidates")
        return candidates.astype(np.float32)


def _layout(version: ModelVersion, shape: Sequence[int], classes: int, facts: FileFacts) -> Layout:
    known = f"{version.reference}: the output is {tuple(shape)}"
    if len(shape) != 3 or shape[0] not in (-1, 1):  # noqa: PLR2004 - batch, and two more
        raise ModelError("proof_failed", f"{known}; a detection model answers {_expected()}")
    # v5 with one class has rows of six too, but thousands of them, and other numbers in them.
    if shape[2] == _ROW and (facts.end2end or _BOX + classes != shape[1] <= MAX_OBJECTS):
        return Layout.END_TO_END
    if classes and shape[1] == _BOX + classes and not facts.end2end:
        return Layout.ANCHORS
    if not classes and _BOX < shape[1] < shape[2]:
        return Layout.ANCHORS
    raise ModelError("proof_failed", f"{known}, with {classes or 'no'} class names; expected {_expected()}")


def _expected() -> str:
    return " or ".join(layout.value for layout in Layout)
