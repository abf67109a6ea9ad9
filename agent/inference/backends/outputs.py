"""Choice of the output that holds a model's answer."""

from collections.abc import Sequence
from typing import Final

from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_ANSWER: Final = 3  # batch, anchors, columns
_MAP: Final = 5  # batch, anchors of a cell, rows, columns of cells, columns of an answer


def require_first(version: ModelVersion, shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise ModelError unless the first output is the whole answer: the only one, or YOLOv5's beside its raw maps.

    YOLOv5 before 7.0 exports (1, anchors, 5 + classes), and what it made that of: (1, 3, rows, columns, 5 + classes).
    """
    if len(shapes) == 1:
        return
    answer, *others = shapes
    if len(answer) == _ANSWER and others and all(_is_map_of(answer, other) for other in others):
        return
    raise ModelError("load_failed", f"{version.reference}: no detection model: it has {len(shapes)} outputs")


def _is_map_of(answer: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return len(other) == _MAP and (other[-1] == answer[-1] or -1 in (other[-1], answer[-1]))
