"""Table of the outputs that exporters split: how each kind is packed into one output of a known layout.

A file is refused where two kinds are possible, because a wrong guess would serve wrong detections unnoticed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from agent.inference.yolo.layouts import Layout
from agent.messages.errors import ModelError
from agent.messages.references import Layout as Word
from agent.messages.references import ModelVersion
from agent.models.onnx_file import FILLED, OPEN, SIZES, Port

_BOX: Final = 4
_FLAT_ROW: Final = 7  # number of the picture, corners, score and class
_PICTURE: Final = 4  # sides of the picture
_ROWS, _FLAT = 3, 2  # sides of (1, n, columns), and of (n, columns) or (1, n)
_MOST_QUERIES: Final = 1000
_CELL_STRIDES: Final = (8, 16, 32)


class Pack(Enum):
    """A kind of split outputs, and what it holds."""

    SIZED = "labels (1, n), boxes (1, n, 4) as corners, scores (1, n) (RT-DETR, D-FINE, with orig_target_sizes)"
    LOGITS = "logits (1, queries, classes), boxes (1, queries, 4) in shares; sigmoid (RT-DETR, D-FINE of transformers)"
    NORMED_LOGITS = "boxes (1, queries, 4) in shares, logits (1, queries, classes); sigmoid, ImageNet (RF-DETR)"
    SOFTMAX = "logits (1, queries, classes + none), boxes (1, queries, 4) in shares; softmax (DETR)"
    CORNERS = "boxes (1, cells, 4) as corners, scores (1, cells, classes) (YOLO-NAS without suppression)"
    COUNTED = "a count (1, 1), boxes (1, n, 4) as corners, scores (1, n), classes (1, n) (YOLO-NAS, batch)"
    FLAT = "(n, 7): picture, corners, score, class (YOLO-NAS, flat)"
    FLAT_CLASS = "(n, 7): picture, corners, class, score (YOLOv7 with suppression)"


LAYOUTS: Final = {
    Pack.SIZED: Layout.SHARE_ROWS,
    Pack.LOGITS: Layout.QUERIES,
    Pack.NORMED_LOGITS: Layout.QUERIES,
    Pack.SOFTMAX: Layout.QUERIES,
    Pack.CORNERS: Layout.ANCHORS,
    Pack.COUNTED: Layout.END_TO_END,
    Pack.FLAT: Layout.END_TO_END,
    Pack.FLAT_CLASS: Layout.END_TO_END,
}
"""Layout of the one output that each kind is packed into."""
FLAT_COLUMNS: Final = {Pack.FLAT: (1, 2, 3, 4, 5, 6), Pack.FLAT_CLASS: (1, 2, 3, 4, 6, 5)}
"""Columns of corners, score and class in the kinds of flat rows."""


@dataclass(frozen=True)
class _Seen:
    outputs: Sequence[Port]
    imgsz: tuple[int, int]
    classes: int
    takes_sizes: bool

    @property
    def pair(self) -> tuple[int, int] | None:
        """Numbers of the outputs of boxes and of a number a class, which have as many rows; None for others."""
        if [len(port.sides) for port in self.outputs] != [_ROWS, _ROWS]:
            return None
        one, other = self.outputs
        if one.sides[1] != other.sides[1]:
            return None
        boxes = [number for number, port in enumerate(self.outputs) if port.sides[2] == _BOX]
        named = [number for number in boxes if "box" in self.outputs[number].name or "det" in self.outputs[number].name]
        chosen = boxes if len(boxes) == 1 else named
        return (chosen[0], 1 - chosen[0]) if len(chosen) == 1 else None

    @property
    def columns(self) -> int:
        """Columns of the output of a number a class; 0 where there is none."""
        return 0 if self.pair is None else self.outputs[self.pair[1]].sides[2]

    @property
    def rows(self) -> int:
        return 0 if self.pair is None else self.outputs[self.pair[0]].sides[1]

    @property
    def is_query_count(self) -> bool:
        return self.rows == OPEN or 0 < self.rows <= _MOST_QUERIES

    @property
    def is_cell_count(self) -> bool:
        high, wide = self.imgsz
        return self.rows in {OPEN, sum(-(-high // side) * -(-wide // side) for side in _CELL_STRIDES)}

    def names(self, *words: str) -> bool:
        """Return True where the names of all outputs are these words, in any order."""
        return sorted(port.name for port in self.outputs) == sorted(words)


@dataclass(frozen=True)
class _Reading:
    """One row of the table."""

    pack: Pack
    words: tuple[Word, ...]
    """Names in the catalog's `layout`, its own name first."""
    fits: Callable[[_Seen], bool]
    affirmed: Callable[[_Seen], bool]
    """True where the outputs' names say that it is this one."""
    is_silent: bool = True
    """The kind is possible where neither catalog nor names say it."""


def recognise(
    version: ModelVersion, inputs: Sequence[Port], outputs: Sequence[Port], imgsz: tuple[int, int], classes: int
) -> Pack | None:
    """Return the kind of a file's split outputs: the catalog's, else the one that their names say, else that fits.

    None where the outputs are not split, so that the table of layouts decides.

    Raises ModelError("unclear_layout") where two kinds fit, and ModelError("proof_failed") where the count of classes
    excludes all.
    """
    seen = _Seen(outputs, imgsz, classes, any(port.name == SIZES for port in inputs))
    fitting = [reading for reading in _TABLE if reading.fits(seen)]
    if version.layout:
        named = [reading for reading in fitting if version.layout in reading.words]
        fitting = sorted(named, key=lambda reading: reading.words.index(version.layout))[:1]
    else:
        affirmed = [reading for reading in fitting if reading.affirmed(seen)]
        fitting = affirmed or [reading for reading in fitting if reading.is_silent]
    if len(fitting) > 1:
        choice = " or ".join(f'"{reading.words[0]}" {reading.pack.value}' for reading in fitting)
        known = f"{version.reference}: the outputs {_described(outputs)} could be {choice}"
        raise ModelError("unclear_layout", f"{known}: say which by `layout` in the catalog")
    if not fitting and seen.columns:
        known = f"{version.reference}: the outputs are {_described(outputs)}, with {classes} class names"
        cure = "name the class of each column, also one that is never found (DETR: all but its last)"
        raise ModelError("proof_failed", f"{known}: {cure}")
    return fitting[0].pack if fitting else None


def roles(pack: Pack, outputs: Sequence[Port]) -> tuple[int, ...]:
    """Return the numbers of the outputs in the order in which the kind is packed; the kind must fit them."""
    seen = _Seen(outputs, (0, 0), 0, takes_sizes=True)
    if pack is Pack.SIZED:
        return _sized(outputs) or ()
    if pack is Pack.COUNTED:
        return _counted(outputs) or ()
    return seen.pair or (0,)


def require_known(version: ModelVersion, inputs: Sequence[Port]) -> None:
    """Raise ModelError where a file takes more than a picture, and it is not known what."""
    others = sorted(port.name for port in inputs if len(port.sides) != _PICTURE and port.name not in FILLED)
    if others or sum(len(port.sides) == _PICTURE for port in inputs) != 1:
        what = f"no detection model: its inputs are {_described(inputs)}, and one should be the picture"
        cure = f"; {', '.join(sorted(FILLED))} may stand beside it"
        raise ModelError("load_failed", f"{version.reference}: {what}{cure}")


def require_detecting(version: ModelVersion) -> None:
    """Raise ModelError where the catalog gives a file with split outputs another task, because all of them detect."""
    if version.task not in {"", "detect"}:
        what = f"the catalog says {version.task}, and the outputs are those of a detector"
        raise ModelError("load_failed", f"{version.reference}: {what}")


def picture_of(inputs: Sequence[Port]) -> int:
    """Return the number of the input that takes the picture."""
    return next(number for number, port in enumerate(inputs) if len(port.sides) == _PICTURE)


def filled_shape(port: Port, imgsz: tuple[int, int]) -> tuple[int, ...]:
    """Return the shape of the ones that an input beside the picture is filled with."""
    if port.name == SIZES:
        return (1, 2)
    return (1, *(side if side > 0 else of_picture for side, of_picture in zip(port.sides[1:], imgsz, strict=False)))


def _counted(outputs: Sequence[Port]) -> tuple[int, ...] | None:
    """Return the numbers of count, boxes, scores and classes."""
    counts = [at for at, port in enumerate(outputs) if port.sides[1:] == (1,) or "num" in port.name]
    if len(outputs) != _ROWS + 1 or len(counts) != 1:
        return None
    others = [at for at in range(len(outputs)) if at != counts[0]]
    found = _sized([outputs[at] for at in others])
    if found is None:
        return None
    labels, boxes, scores = (others[at] for at in found)
    return counts[0], boxes, scores, labels


def _sized(outputs: Sequence[Port]) -> tuple[int, ...] | None:
    """Return the numbers of labels, boxes and scores among outputs of (1, n), (1, n, 4) and (1, n)."""
    boxes = [at for at, port in enumerate(outputs) if len(port.sides) == _ROWS and port.sides[2] == _BOX]
    flat = [at for at, port in enumerate(outputs) if len(port.sides) == _FLAT]
    if len(outputs) != _ROWS or len(boxes) != 1 or len(flat) != _FLAT:
        return None
    labels = [at for at in flat if outputs[at].is_whole] or [
        at for at in flat if "label" in outputs[at].name or "class" in outputs[at].name
    ]
    return (labels[0], boxes[0], sum(flat) - labels[0]) if len(labels) == 1 else None


def _is_flat(seen: _Seen) -> bool:
    return [port.sides[1:] for port in seen.outputs] == [(_FLAT_ROW,)]


def _described(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.name} {port.sides}" for port in ports)


_TABLE: Final = (
    _Reading(
        Pack.SIZED,
        ("dfine", "rtdetr"),
        lambda seen: seen.takes_sizes and _sized(seen.outputs) is not None,
        affirmed=lambda seen: seen.names("labels", "boxes", "scores"),
    ),
    _Reading(
        Pack.LOGITS,
        ("rtdetr-logits", "rtdetr", "dfine"),
        lambda seen: seen.columns == seen.classes and seen.is_query_count,
        affirmed=lambda seen: seen.names("logits", "pred_boxes"),
    ),
    _Reading(
        Pack.NORMED_LOGITS,
        ("rfdetr",),
        lambda seen: seen.columns == seen.classes and seen.is_query_count,
        affirmed=lambda seen: seen.names("dets", "labels"),
    ),
    _Reading(
        Pack.SOFTMAX,
        ("detr",),
        lambda seen: seen.columns == seen.classes + 1 and seen.is_query_count,
        affirmed=lambda seen: seen.names("logits", "pred_boxes"),
        is_silent=False,  # because a class without a name would look the same
    ),
    _Reading(
        Pack.CORNERS,
        ("yolonas",),
        lambda seen: seen.columns == seen.classes and seen.is_cell_count,
        affirmed=lambda seen: any("score" in port.name for port in seen.outputs),
    ),
    _Reading(
        Pack.COUNTED,
        ("yolonas-batch", "yolonas"),
        lambda seen: _counted(seen.outputs) is not None,
        affirmed=lambda _: False,
    ),
    _Reading(
        Pack.FLAT,
        ("yolonas-flat", "yolonas"),
        _is_flat,
        affirmed=lambda seen: "flat" in seen.outputs[0].name,
    ),
    _Reading(Pack.FLAT_CLASS, ("v7-flat", "v7"), _is_flat, affirmed=lambda _: False),
)
WORDS: Final = frozenset(word for reading in _TABLE for word in reading.words)
"""All names of kinds that the catalog's `layout` may use."""


def word_of(pack: Pack) -> Word:
    """Return the kind's own name in the catalog."""
    return next(reading.words[0] for reading in _TABLE if reading.pack is pack)
