"""Table of output layouts: the shapes that fit each, and the metadata that exclude or confirm it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal, TypeAlias

from agent.inference.yolo.metadata import RTDETR, YOLO, FileFacts
from agent.messages.references import Task
from agent.models.onnx_file import OPEN

Shapes: TypeAlias = Sequence[Sequence[int]]
"""Shapes of a file's outputs, in their order."""

MAX_OBJECTS: Final = 300
"""Most objects of one picture, as in ultralytics; here, because a module that uses it must not load numpy."""
_BOX: Final = 4
_ROW: Final = 6  # a box, score, label
_LEAST_POINT: Final = 2  # x and y
_ANCHORS_A_CELL: Final = 3
_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_QUERY_ROWS_SINCE: Final = (8, 4, 60)
_ANSWER_SIDES: Final = 3  # batch, anchors, columns
_MAP_SIDES: Final = 5  # batch, anchors of a cell, rows, columns of cells, columns of an answer
_MASK_SIDES: Final = 4  # batch, masks, rows, columns
_WORD_SIDES: Final = 2  # batch, classes


class Layout(Enum):
    """The order and the meaning of the numbers in a model's raw output, one member for each family of heads."""

    ANCHORS = "(1, 4 + classes, anchors): centre and size, a score a class (v5u, v8, v9, 11, 12)"
    OBJECTNESS = "(1, anchors, 5 + classes): centre and size, a score for any object, one a class (v5)"
    END_TO_END = "(1, objects, 6): corners, score, class (v10, 26, suppression in the graph)"
    QUERIES = "(1, queries, 4 + classes): centre and size in shares of the picture, a score a class (RT-DETR)"
    QUERY_ROWS = "(1, queries, 6): centre and size in shares of the picture, score, class (RT-DETR since 2026)"
    GRID = "(1, cells, 5 + classes): offsets from cells, a score for any object, one a class (YOLOX, not decoded)"
    GRID_DECODED = "(1, cells, 5 + classes): centre and size, a score for any object, one a class (YOLOX, decoded)"
    SHARE_ROWS = "(1, objects, 6): corners in shares of the picture, score, class (RT-DETR, D-FINE by themselves)"
    MASKS = (
        "(1, 4 + classes + n, anchors) and (1, n, rows, columns): v8's numbers, n shares of n masks (v8-seg, 11-seg)"
    )
    OBJECTNESS_MASKS = "(1, anchors, 5 + classes + n) and (1, n, rows, columns): v5's numbers, shares of masks (v5-seg)"
    MASK_ROWS = "(1, objects, 6 + n) and (1, n, rows, columns): corners, score, class, shares of masks (26-seg)"
    POINTS = "(1, 4 + classes + numbers of keypoints, anchors): v8's numbers, then keypoints (v8-pose, 11-pose)"
    POINT_ROWS = "(1, objects, 6 + numbers of keypoints): corners, score, class, keypoints (26-pose)"
    TURNED = "(1, 5 + classes, anchors): v8's numbers, then an angle (v8-obb, 11-obb)"
    TURNED_ROWS = "(1, objects, 7): centre and size, score, class, angle (26-obb)"
    WORDS = "(1, classes): a score a class, which add up to 1 (v8-cls, 11-cls, 26-cls)"
    LOGITS = "(1, classes): a number a class, of colours less their mean (v5-cls)"


Form: TypeAlias = Literal["columns", "objectness", "rows", "classes"]
FORMS: Final[dict[Layout, Form]] = {
    **dict.fromkeys((Layout.ANCHORS, Layout.MASKS, Layout.POINTS, Layout.TURNED), "columns"),
    **dict.fromkeys((Layout.OBJECTNESS, Layout.OBJECTNESS_MASKS, Layout.GRID_DECODED), "objectness"),
    **dict.fromkeys((Layout.END_TO_END, Layout.MASK_ROWS, Layout.POINT_ROWS, Layout.TURNED_ROWS), "rows"),
    **dict.fromkeys((Layout.WORDS, Layout.LOGITS), "classes"),
}
"""Layouts whose first outputs differ in what follows box, scores and class only; others have a form of their own."""


@dataclass(frozen=True)
class Seen:
    """Known facts of an output; `rows` and `columns` are the last sides of its shape, or OPEN."""

    rows: int
    columns: int
    classes: int
    imgsz: tuple[int, int]
    facts: FileFacts
    masks: int = 0
    """Number of masks that an output beside it holds."""
    outputs: tuple[int, ...] = (0,)
    """Numbers of the outputs that were looked at."""

    @property
    def is_query_count(self) -> bool:
        """True for 1 to 300 rows, the count of a detection transformer's queries, which is never left open."""
        return 0 < self.rows <= MAX_OBJECTS


def _alone(shapes: Shapes) -> tuple[int, ...]:
    """Pick the only output, or YOLOv5's before its raw maps, which YOLOv5 before 7.0 exports as well."""
    answer, *others = shapes
    return (0,) if len(answer) == _ANSWER_SIDES and all(_is_map_of(answer, other) for other in others) else ()


def _is_map_of(answer: Sequence[int], other: Sequence[int]) -> bool:
    return len(other) == _MAP_SIDES and (other[-1] == answer[-1] or OPEN in {other[-1], answer[-1]})


def _beside_masks(shapes: Shapes) -> tuple[int, ...]:
    """Pick the output of objects and the one of masks, in whichever order they are."""
    sides = [len(shape) for shape in shapes]
    is_pair = sorted(sides) == [_ANSWER_SIDES, _MASK_SIDES]
    return (sides.index(_ANSWER_SIDES), sides.index(_MASK_SIDES)) if is_pair else ()


def _of_the_picture(shapes: Shapes) -> tuple[int, ...]:
    return (0,) if [len(shape) for shape in shapes] == [_WORD_SIDES] else ()


@dataclass(frozen=True)
class Reading:
    """One row of the table: a layout with its conditions."""

    layout: Layout
    words: tuple[str, ...]
    """Names of the layout in the catalog, its own name first."""
    fits: Callable[[Seen], bool]
    """True where the output's shape allows the layout."""
    denied: Callable[[FileFacts], bool]
    """True where the file's metadata exclude the layout."""
    affirmed: Callable[[Seen], bool]
    """True where the file's metadata confirm the layout."""
    task: Task = "detect"
    picks: Callable[[Shapes], tuple[int, ...]] = _alone
    """Numbers of the outputs that the layout reads; empty where the outputs exclude the layout."""
    is_silent: bool = True
    """The layout is possible where neither catalog nor file say the task."""


def word_of(layout: Layout) -> str:
    """Return the catalog's main word of a layout."""
    return next(reading.words[0] for reading in TABLE if reading.layout is layout)


def task_of(layout: Layout) -> Task:
    """Return the task whose results a layout holds."""
    return next(reading.task for reading in TABLE if reading.layout is layout)


def _cell_counts(imgsz: tuple[int, int]) -> set[int]:
    """Return the possible numbers of an input's grid cells, one for each known set of strides."""
    return {sum(-(-imgsz[0] // stride) * -(-imgsz[1] // stride) for stride in strides) for strides in _STRIDES}


def _has_suppression(facts: FileFacts) -> bool:
    return bool(facts.end2end or facts.has_nms)


def _is_dense(seen: Seen) -> bool:
    return seen.columns == OPEN or seen.columns > seen.rows or seen.columns in _cell_counts(seen.imgsz)


def _is_anchors(seen: Seen) -> bool:
    return seen.rows == _BOX + seen.classes + seen.masks and _is_dense(seen)


def _is_objectness(seen: Seen) -> bool:
    cells = _cell_counts(seen.imgsz)
    is_cells = seen.rows in cells or seen.rows in {_ANCHORS_A_CELL * count for count in cells}
    is_dense = seen.rows == OPEN or seen.rows > MAX_OBJECTS or is_cells
    return seen.columns == _BOX + 1 + seen.classes + seen.masks and is_dense


def _are_points(seen: Seen, numbers: int) -> bool:
    said = seen.facts.kpt_shape
    return numbers == said[0] * said[1] if said else numbers >= _LEAST_POINT


def _says_anchors_of_boxes(seen: Seen) -> bool:
    """Return True for metadata in the form of YOLOv5's own exporter: class names, but none of ultralytics' keys."""
    return bool(seen.facts.names) and seen.facts.imgsz is None and not seen.facts.is_ultralytics


def _is_grid(seen: Seen) -> bool:
    return seen.columns == _BOX + 1 + seen.classes and seen.rows in _cell_counts(seen.imgsz)


def _denies_anchors(facts: FileFacts) -> bool:
    return facts.family == RTDETR or _has_suppression(facts)


def _denies_rows(facts: FileFacts) -> bool:
    return facts.family == RTDETR or (facts.end2end is False and not facts.has_nms)


def _says_yolo(seen: Seen) -> bool:
    return seen.facts.family == YOLO


def _says_rows(seen: Seen) -> bool:
    return _has_suppression(seen.facts) or seen.facts.family == YOLO


def _is_queries(seen: Seen) -> bool:
    # only six columns can be rows as well, so only there the release decides
    is_rows = seen.columns == _ROW and _is_query_rows_by_release(seen.facts) is True
    return seen.columns == _BOX + seen.classes and seen.is_query_count and not is_rows


def _is_query_rows_by_release(facts: FileFacts) -> bool | None:
    if facts.head:
        return True  # because ultralytics writes `head` only since a later release
    return facts.release >= _QUERY_ROWS_SINCE if facts.release else None


TABLE: Final = (
    Reading(
        Layout.ANCHORS,
        ("v8", "v9", "v11", "v12"),
        _is_anchors,
        denied=_denies_anchors,
        affirmed=_says_yolo,
    ),
    Reading(
        Layout.OBJECTNESS,
        ("v5", "v3", "v6", "v7"),
        _is_objectness,
        denied=lambda facts: facts.is_ultralytics,
        affirmed=_says_anchors_of_boxes,
    ),
    Reading(
        Layout.END_TO_END,
        ("rows", "v10", "v26"),
        lambda seen: seen.columns == _ROW,
        denied=_denies_rows,
        affirmed=_says_rows,
    ),
    Reading(
        Layout.QUERIES,
        ("rtdetr",),
        _is_queries,
        denied=lambda facts: facts.family == YOLO or (facts.family != RTDETR and _has_suppression(facts)),
        affirmed=lambda seen: seen.facts.family == RTDETR,
    ),
    Reading(
        Layout.QUERY_ROWS,
        ("rtdetr-rows", "rtdetr"),
        lambda seen: seen.columns == _ROW and seen.is_query_count,
        denied=lambda facts: (
            facts.family == YOLO
            or _is_query_rows_by_release(facts) is False
            or (facts.family != RTDETR and _has_suppression(facts))
        ),
        affirmed=lambda seen: seen.facts.family == RTDETR,
    ),
    Reading(
        Layout.GRID,
        ("yolox",),
        _is_grid,
        denied=lambda facts: bool(facts.names),
        affirmed=lambda _: False,
    ),
    Reading(
        Layout.GRID_DECODED,
        ("yolox-decoded",),
        _is_grid,
        denied=lambda facts: bool(facts.names),
        affirmed=lambda _: False,
    ),
    Reading(
        Layout.MASKS,
        ("v8", "v9", "v11", "v12"),
        _is_anchors,
        denied=_denies_anchors,
        affirmed=_says_yolo,
        task="segment",
        picks=_beside_masks,
    ),
    Reading(
        Layout.OBJECTNESS_MASKS,
        ("v5", "v7"),
        _is_objectness,
        denied=lambda facts: facts.is_ultralytics,
        affirmed=_says_anchors_of_boxes,
        task="segment",
        picks=_beside_masks,
    ),
    Reading(
        Layout.MASK_ROWS,
        ("rows", "v26"),
        lambda seen: seen.columns == _ROW + seen.masks,
        denied=_denies_rows,
        affirmed=_says_rows,
        task="segment",
        picks=_beside_masks,
    ),
    Reading(
        Layout.POINTS,
        ("v8", "v11", "v12"),
        lambda seen: _is_dense(seen) and _are_points(seen, seen.rows - _BOX - seen.classes),
        denied=_denies_anchors,
        affirmed=_says_yolo,
        task="pose",
        is_silent=False,
    ),
    Reading(
        Layout.POINT_ROWS,
        ("rows", "v26"),
        lambda seen: seen.columns not in _cell_counts(seen.imgsz) and _are_points(seen, seen.columns - _ROW),
        denied=_denies_rows,
        affirmed=_says_rows,
        task="pose",
        is_silent=False,
    ),
    Reading(
        Layout.TURNED,
        ("v8", "v11", "v12"),
        lambda seen: _is_dense(seen) and seen.rows == _BOX + seen.classes + 1,
        denied=_denies_anchors,
        affirmed=_says_yolo,
        task="obb",
        is_silent=False,
    ),
    Reading(
        Layout.TURNED_ROWS,
        ("rows", "v26"),
        lambda seen: seen.columns == _ROW + 1,
        denied=_denies_rows,
        affirmed=_says_rows,
        task="obb",
        is_silent=False,
    ),
    Reading(
        Layout.WORDS,
        ("v8", "v11", "v12", "v26"),
        lambda seen: seen.columns == seen.classes,
        denied=lambda _: False,
        affirmed=lambda seen: seen.facts.is_ultralytics,
        task="classify",
        picks=_of_the_picture,
    ),
    Reading(
        Layout.LOGITS,
        ("v5",),
        lambda seen: seen.columns == seen.classes,
        denied=lambda facts: facts.is_ultralytics,
        affirmed=_says_anchors_of_boxes,
        task="classify",
        picks=_of_the_picture,
    ),
)
SERVED_WORDS: Final = frozenset(word for reading in TABLE for word in reading.words)
"""All names of layouts that the catalog may use."""
