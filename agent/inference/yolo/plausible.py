"""Plausibility checks of a raw output, which detect that a file has another layout than assumed.

The checks compare the numbers to the layout, never to a count of objects, because a correct model may find nothing,
and an untrained one finds anything. Rows of zeros are padding, and ignored.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.layouts import FORMS, Layout

_BOX: Final = 4
_ROW: Final = 6
_XY: Final = 2
_SCORE, _LABEL = 4, 5
_WITHIN: Final = 0.01  # rounding of 0 and 1 in float16 and bfloat16
_TINY_PIXELS: Final = 4.0
"""Boxes that all lie this near to the input's corner are not in pixels, but in shares or in cells."""
_SHARE_LIMIT: Final = 2.0
"""Largest coordinate of a box in shares, which may extend beyond the picture a little; pixels are far larger."""
_CROWD: Final = 32
"""Number of boxes from which those of a dense head must spread over the input, because each has its own cell."""
_SPREAD: Final = 0.1
_SURE: Final = 0.25
_MOST: Final = 0.5
_NEARLY_ALL: Final = 0.95  # a head without distributions may turn boxes that it is not sure of
_FEW: Final = 8
_CELLS_AWAY: Final = 16.0
_SUM_WITHIN: Final = 0.05  # a thousand scores in bfloat16
_FAR: Final = 16
"""Multiple of the input's side within which an untrained head's keypoints still lie."""
_TURN: Final = 2 * np.pi + 0.01

_Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Promise:
    """The expected output: its `layout`, the input's `imgsz`, the number of `classes`, the `confidence` threshold.

    `points` are the number of keypoints and of their numbers.
    """

    layout: Layout
    imgsz: tuple[int, int]
    classes: int
    confidence: float
    points: tuple[int, int] = (0, 0)


def oddity(raw: NDArray[np.floating], promise: Promise) -> str | None:
    """Describe the first oddity in a raw output, float (rows, columns) in the layout's order; None without one."""
    rows = np.asarray(raw.T if FORMS.get(promise.layout) == "columns" else np.atleast_2d(raw), np.float32)
    rows = rows[rows.any(axis=1)]
    return next(_CHECKS[promise.layout](rows, promise), None) if len(rows) else None


def _anchors(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _BOX : _BOX + promise.classes])
    yield from _odd_boxes(rows[:, :_BOX], promise.imgsz)


def _objectness(rows: _Rows, promise: Promise) -> Iterator[str]:
    rows = rows[:, : _BOX + 1 + promise.classes]
    yield from _odd_scores(rows[:, _BOX:])
    yield from _odd_classes(rows[:, _BOX], rows[:, _BOX + 1 :], promise.confidence)
    yield from _odd_boxes(rows[:, :_BOX], promise.imgsz)


def _points(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _anchors(rows, promise)
    yield from _odd_points(rows[:, _BOX + promise.classes :], promise)


def _point_rows(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _end_to_end(rows, promise)
    yield from _odd_points(rows[:, _ROW:], promise)


def _turned(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _anchors(rows, promise)
    best = rows[:, _BOX : _BOX + promise.classes].max(axis=1)
    yield from _odd_angles(rows[best > max(promise.confidence, _SURE), -1])  # YOLO26's angles have no bound elsewhere


def _turned_rows(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _SCORE : _SCORE + 1])
    yield from _odd_labels(rows[:, _LABEL], promise.classes)
    yield from _in_the_corner(rows[:, :_BOX])
    yield from _negative_sizes(rows[:, 2:_BOX])
    yield from _odd_angles(rows[rows[:, _SCORE] > max(promise.confidence, _SURE), -1])


def _words(rows: _Rows, _: Promise) -> Iterator[str]:
    yield from _odd_scores(rows)
    if abs(float(rows.sum()) - 1) > _SUM_WITHIN:
        yield f"its scores add up to {rows.sum():.4g}, not to 1"


def _logits(rows: _Rows, _: Promise) -> Iterator[str]:
    if rows.size > 1 and rows.min() >= 0 and abs(float(rows.sum()) - 1) <= _WITHIN:
        yield "its numbers add up to 1, so they are scores already"


def _end_to_end(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _SCORE : _SCORE + 1])
    yield from _odd_labels(rows[:, _LABEL], promise.classes)
    yield from _in_the_corner(rows[:, :_BOX])
    turned = (rows[:, 2] < rows[:, 0]) | (rows[:, 3] < rows[:, 1])
    sure = turned[rows[:, _SCORE] > max(promise.confidence, _SURE)]
    if sure.sum() > _MOST * len(sure) or (len(turned) >= _CROWD and turned.mean() > _NEARLY_ALL):
        yield f"{turned.mean():.0%} of its boxes end before they begin, so they are no corners"


def _queries(rows: _Rows, _: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _BOX:])
    yield from _odd_shares(rows[:, :_BOX])
    yield from _all_whole(rows[:, _BOX:])


def _query_rows(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _SCORE : _SCORE + 1])
    yield from _odd_labels(rows[:, _LABEL], promise.classes)
    yield from _odd_shares(rows[:, :_BOX])


def _share_rows(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _SCORE : _SCORE + 1])
    yield from _odd_labels(rows[:, _LABEL], promise.classes)
    yield from _odd_shares(rows[:, :_BOX], are_corners=True)


def _grid(rows: _Rows, promise: Promise) -> Iterator[str]:
    yield from _odd_scores(rows[:, _BOX:])
    yield from _odd_classes(rows[:, _BOX], rows[:, _BOX + 1 :], promise.confidence)
    furthest = float(np.quantile(np.abs(rows[:, :_BOX]), 0.95))
    if furthest > _CELLS_AWAY:
        yield f"its boxes are {furthest:.0f} cells away from their own, so they are decoded already"


_CHECKS: Final[dict[Layout, Callable[[_Rows, Promise], Iterator[str]]]] = {
    Layout.ANCHORS: _anchors,
    Layout.OBJECTNESS: _objectness,
    Layout.END_TO_END: _end_to_end,
    Layout.QUERIES: _queries,
    Layout.QUERY_ROWS: _query_rows,
    Layout.GRID: _grid,
    Layout.GRID_DECODED: _objectness,
    Layout.SHARE_ROWS: _share_rows,
    Layout.MASKS: _anchors,
    Layout.OBJECTNESS_MASKS: _objectness,
    Layout.MASK_ROWS: _end_to_end,
    Layout.POINTS: _points,
    Layout.POINT_ROWS: _point_rows,
    Layout.TURNED: _turned,
    Layout.TURNED_ROWS: _turned_rows,
    Layout.WORDS: _words,
    Layout.LOGITS: _logits,
}


def _odd_scores(scores: _Rows) -> Iterator[str]:
    least, most = float(scores.min()), float(scores.max())
    if least < -_WITHIN or most > 1 + _WITHIN:
        yield f"its scores go from {least:.4g} to {most:.4g}, beyond 0 and 1"


def _odd_labels(labels: _Rows, classes: int) -> Iterator[str]:
    if (labels != np.round(labels)).any():
        yield f"where labels should be it has {_example(labels[labels != np.round(labels)])}, no whole number"
    elif labels.min() < 0 or labels.max() >= classes:
        yield f"it has label {labels.max() if labels.max() >= classes else labels.min():.0f}, of {classes} classes"


def _odd_classes(objectness: _Rows, scores: _Rows, confidence: float) -> Iterator[str]:
    """Yield the signs that a column of class scores holds labels."""
    sure = objectness > max(confidence, _WITHIN)
    if sure.any() and not scores[sure].any():
        yield "no row can ever pass the threshold: where there is an object, each class scores 0"
    yield from _all_whole(scores)


def _all_whole(scores: _Rows) -> Iterator[str]:
    """Yield an oddity where a column of scores has different values and all are whole numbers."""
    whole = (scores == np.round(scores)).all(axis=0)
    varied = (scores.min(axis=0) != scores.max(axis=0)) & whole
    if len(scores) >= _FEW and varied.any():
        yield "a column that should hold scores holds whole numbers only, as labels are"


def _odd_shares(boxes: _Rows, *, are_corners: bool = False) -> Iterator[str]:
    furthest = float(np.abs(boxes).max())
    sizes = boxes[:, 2:] - boxes[:, :2] if are_corners else boxes[:, 2:]
    if furthest > _SHARE_LIMIT:
        yield f"it has a box at {furthest:.4g}, and a share of the picture is at most 1"
    elif sizes.min() < -_WITHIN:
        yield f"it has a box of size {sizes.min():.4g}"


def _in_the_corner(boxes: _Rows) -> Iterator[str]:
    furthest = float(np.abs(boxes).max())
    if 0 < furthest <= _TINY_PIXELS:
        yield f"no box goes beyond {furthest:.4g} pixels, so they are in shares or in cells"


def _negative_sizes(sizes: _Rows) -> Iterator[str]:
    negative = (sizes < 0).any(axis=1).mean()
    if negative > _NEARLY_ALL:
        yield f"{negative:.0%} of its boxes have a size below 0"


def _odd_points(numbers: _Rows, promise: Promise) -> Iterator[str]:
    """Yield the oddities of keypoints (n, points * numbers): pixels of the input, then scores."""
    points = numbers.reshape(-1, *promise.points)
    yield from _odd_scores(points[..., 2:]) if points.shape[2] > _XY else ()
    if points.size and np.abs(points[..., :_XY]).max() <= _TINY_PIXELS:
        yield f"no keypoint goes beyond {_TINY_PIXELS:.0f} pixels, so they are in shares or in cells"
    beyond = (np.abs(points[..., :_XY]) > _FAR * max(promise.imgsz)).mean()
    if beyond > _MOST:
        yield f"{beyond:.0%} of its keypoints are beyond {_FAR} times the input, so they are no pixels"


def _odd_angles(angles: _Rows) -> Iterator[str]:
    furthest = float(np.abs(angles).max(initial=0))
    if furthest > _TURN:
        yield f"it has an angle of {furthest:.4g}, beyond a turn in radians"


def _odd_boxes(boxes: _Rows, imgsz: tuple[int, int]) -> Iterator[str]:
    """Yield the oddities in a dense head's centres and sizes (n, 4), which should be in pixels of the input."""
    yield from _in_the_corner(boxes)
    yield from _negative_sizes(boxes[:, 2:])
    if len(boxes) >= _CROWD:
        low, high = np.quantile(boxes[:, :2], (0.02, 0.98), axis=0)
        for side, spread, name in zip(reversed(imgsz), high - low, ("wide", "high"), strict=True):
            if spread < _SPREAD * side:
                yield f"all its boxes lie within {spread:.4g} pixels of an input {side} {name}: their cells are missing"


def _example(values: _Rows) -> str:
    return f"{float(values[0]):.4g}"
