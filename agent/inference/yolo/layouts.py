"""Table of output layouts, and their recognition by a file's metadata, then by the output's shape.

A model is refused where two layouts are possible, because a wrong guess would serve wrong detections unnoticed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.inference.yolo.metadata import RTDETR, YOLO, FileFacts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

MAX_OBJECTS: Final = 300
"""Most objects of one picture, as in ultralytics; here, because a module that uses it must not load numpy."""
OPEN: Final = -1  # a side that the file leaves open
_BOX: Final = 4
_ROW: Final = 6  # a box, score, label
_ANCHORS_A_CELL: Final = 3
_STRIDES: Final = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (16, 32))
_QUERY_ROWS_SINCE: Final = (8, 4, 60)
_ANSWER_SIDES: Final = 3  # batch, anchors, columns
_MAP_SIDES: Final = 5  # batch, anchors of a cell, rows, columns of cells, columns of an answer


class Layout(Enum):
    """The order and the meaning of the numbers in a model's raw output, one member for each family of heads."""

    ANCHORS = "(1, 4 + classes, anchors): centre and size, a score a class (v5u, v8, v9, 11, 12)"
    OBJECTNESS = "(1, anchors, 5 + classes): centre and size, a score for any object, one a class (v5)"
    END_TO_END = "(1, objects, 6): corners, score, class (v10, 26, suppression in the graph)"
    QUERIES = "(1, queries, 4 + classes): centre and size in shares of the picture, a score a class (RT-DETR)"
    QUERY_ROWS = "(1, queries, 6): centre and size in shares of the picture, score, class (RT-DETR since 2026)"
    GRID = "(1, cells, 5 + classes): offsets from cells, a score for any object, one a class (YOLOX, not decoded)"


@dataclass(frozen=True)
class _Seen:
    """Known facts of an output; `rows` and `columns` are the sides of its shape, or OPEN."""

    rows: int
    columns: int
    classes: int
    imgsz: tuple[int, int]
    facts: FileFacts

    @property
    def is_query_count(self) -> bool:
        """True for 1 to 300 rows, the count of a detection transformer's queries, which is never left open."""
        return 0 < self.rows <= MAX_OBJECTS


@dataclass(frozen=True)
class _Reading:
    """One row of the table: a layout with its conditions."""

    layout: Layout
    words: tuple[str, ...]
    """Names of the layout in the catalog, its own name first."""
    fits: Callable[[_Seen], bool]
    """True where the output's shape allows the layout."""
    denied: Callable[[FileFacts], bool]
    """True where the file's metadata exclude the layout."""
    affirmed: Callable[[_Seen], bool]
    """True where the file's metadata confirm the layout."""


def recognise(
    version: ModelVersion, facts: FileFacts, shape: Sequence[int], imgsz: tuple[int, int], classes: int
) -> Layout:
    """Return the layout of an output: the catalog's, else the metadata's, else the only one that fits the shape.

    `shape` has OPEN for each side that the file leaves open; `imgsz` is height and width; `classes` is the number of
    class names.

    Raises ModelError("unclear_layout") where two layouts are possible, and ModelError("proof_failed") where none is.
    """
    known = f"{version.reference}: the output is {tuple(shape)}"
    if len(shape) != _ANSWER_SIDES or shape[0] not in (OPEN, 1):
        raise ModelError("proof_failed", f"{known}; a detection model answers {_expected()}")
    seen = _Seen(shape[1], shape[2], classes, imgsz, facts)
    fitting = [reading for reading in _TABLE if reading.fits(seen)]
    if version.layout:
        return _named(version.layout, fitting, known)
    left = [reading for reading in fitting if not reading.denied(facts)]
    left = [reading for reading in left if reading.affirmed(seen)] or left
    if not left:
        raise ModelError("proof_failed", f"{known}, with {classes} class names; expected {_expected()}")
    if len(left) > 1:
        raise ModelError(
            "unclear_layout", f"{known} and could be {_choice(left)}: say which by `layout` in the catalog"
        )
    return left[0].layout


def require_first(version: ModelVersion, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ModelError unless the first output holds all detections: the only output, or YOLOv5's before its raw maps.

    YOLOv5 before 7.0 exports (1, anchors, 5 + classes), and its raw maps (1, 3, rows, columns, 5 + classes) as well.
    """
    if len(shapes) == 1:
        return
    answer, *others = shapes
    if len(answer) == _ANSWER_SIDES and others and all(_is_map_of(answer, other) for other in others):
        return
    raise ModelError("load_failed", f"{version.reference}: no detection model: it has {len(shapes)} outputs")


def _is_map_of(answer: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(other) == _MAP_SIDES and (other[-1] == answer[-1] or OPEN in (other[-1], answer[-1]))


def _named(word: str, fitting: list[_Reading], known: str) -> Layout:
    """Return the layout that the catalog calls `word`; where two have that name, the one whose main name it is.

    Raises ModelError("proof_failed") where no layout in `fitting` has that name.
    """
    named = [reading for reading in fitting if word in reading.words]
    if not named:
        fits = _choice(fitting) if fitting else f"none of {', '.join(sorted(SERVED_WORDS))}"
        raise ModelError("proof_failed", f'{known}; the catalog says layout = "{word}", and it could be {fits}')
    return min(named, key=lambda reading: reading.words.index(word)).layout


def _choice(readings: list[_Reading]) -> str:
    return " or ".join(f'"{reading.words[0]}" {reading.layout.value}' for reading in readings)


def _expected() -> str:
    return " or ".join(layout.value for layout in Layout)


def _cell_counts(imgsz: tuple[int, int]) -> set[int]:
    """Return the possible numbers of an input's grid cells, one for each known set of strides."""
    return {sum(-(-imgsz[0] // stride) * -(-imgsz[1] // stride) for stride in strides) for strides in _STRIDES}


def _has_suppression(facts: FileFacts) -> bool:
    return bool(facts.end2end or facts.has_nms)


def _is_anchors(seen: _Seen) -> bool:
    is_dense = seen.columns == OPEN or seen.columns > seen.rows or seen.columns in _cell_counts(seen.imgsz)
    return seen.rows == _BOX + seen.classes and is_dense


def _is_objectness(seen: _Seen) -> bool:
    cells = _cell_counts(seen.imgsz)
    is_cells = seen.rows in cells or seen.rows in {_ANCHORS_A_CELL * count for count in cells}
    is_dense = seen.rows == OPEN or seen.rows > MAX_OBJECTS or is_cells
    return seen.columns == _BOX + 1 + seen.classes and is_dense


def _says_anchors_of_boxes(seen: _Seen) -> bool:
    """Return True for metadata in the form of YOLOv5's own exporter: class names, but none of ultralytics' keys."""
    return bool(seen.facts.names) and seen.facts.imgsz is None and not seen.facts.is_ultralytics


def _is_grid(seen: _Seen) -> bool:
    return seen.columns == _BOX + 1 + seen.classes and seen.rows in _cell_counts(seen.imgsz)


def _says_rows(seen: _Seen) -> bool:
    return _has_suppression(seen.facts) or seen.facts.family == YOLO


def _is_queries(seen: _Seen) -> bool:
    # only six columns can be rows as well, so only there the release decides
    is_rows = seen.columns == _ROW and _is_query_rows_by_release(seen.facts) is True
    return seen.columns == _BOX + seen.classes and seen.is_query_count and not is_rows


def _is_query_rows_by_release(facts: FileFacts) -> bool | None:
    if facts.head:
        return True  # because ultralytics writes `head` only since a later release
    return facts.release >= _QUERY_ROWS_SINCE if facts.release else None


_TABLE: Final = (
    _Reading(
        Layout.ANCHORS,
        ("v8", "v9", "v11", "v12"),
        _is_anchors,
        denied=lambda facts: facts.family == RTDETR or _has_suppression(facts),
        affirmed=lambda seen: seen.facts.family == YOLO,
    ),
    _Reading(
        Layout.OBJECTNESS,
        ("v5", "v3", "v6", "v7"),
        _is_objectness,
        denied=lambda facts: facts.is_ultralytics,
        affirmed=_says_anchors_of_boxes,
    ),
    _Reading(
        Layout.END_TO_END,
        ("rows", "v10", "v26"),
        lambda seen: seen.columns == _ROW,
        denied=lambda facts: facts.family == RTDETR or (facts.end2end is False and not facts.has_nms),
        affirmed=_says_rows,
    ),
    _Reading(
        Layout.QUERIES,
        ("rtdetr",),
        _is_queries,
        denied=lambda facts: facts.family == YOLO or (facts.family != RTDETR and _has_suppression(facts)),
        affirmed=lambda seen: seen.facts.family == RTDETR,
    ),
    _Reading(
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
    _Reading(
        Layout.GRID,
        ("yolox",),
        _is_grid,
        denied=lambda facts: bool(facts.names),
        affirmed=lambda _: False,
    ),
)
SERVED_WORDS: Final = frozenset(word for reading in _TABLE for word in reading.words)
"""All names of layouts that the catalog may use."""
