"""Ends of an ONNX Runtime session: the picture's input, what stands beside it, and the shapes of the outputs."""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.inference.ends import arrays, packs
from agent.inference.yolo.layouts import MAX_OBJECTS, Shapes
from agent.models.onnx_file import OPEN, Port

Untyped: TypeAlias = Any  # an object of the runtime, which ships no types

CHANNELS: Final = 3
DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(uint8)": np.dtype(np.uint8),
}
_KINDS: Final[dict[str, np.dtype[Any]]] = {
    "tensor(int64)": np.dtype(np.int64),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(bool)": np.dtype(np.bool_),
}
_ROW: Final = 6
_ANSWER: Final = 3


def picture_of(session: Untyped) -> Untyped:
    """Return the input that takes the picture."""
    inputs = session.get_inputs()
    return inputs[packs.picture_of(ports_of(inputs))]


def ports_of(entries: Sequence[Untyped]) -> list[Port]:
    """Describe a session's inputs or outputs."""
    return [Port(entry.name, sides_of(entry.shape), "int" in entry.type) for entry in entries]


def fillers(session: Untyped, imgsz: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Return what the inputs beside the picture are given, by name."""
    beside = [entry for entry in session.get_inputs() if entry.name != picture_of(session).name]
    return {
        entry.name: np.ones(packs.filled_shape(port, imgsz), _KINDS.get(entry.type, np.dtype(np.float32)))
        for entry, port in zip(beside, ports_of(beside), strict=True)
    }


def packed_shapes(session: Untyped, pack: packs.Pack, imgsz: tuple[int, int], classes: int) -> Shapes:
    """Return the shape of the packed output, found by one inference; the rows of a flat one stay open."""
    ports = ports_of(session.get_outputs())
    order = [ports[number].name for number in packs.roles(pack, ports)]
    shape = arrays.packed(pack, _infer_black(session, order, imgsz), classes).shape
    return ((1, OPEN, _ROW) if pack in packs.FLAT_COLUMNS else shape,)


def _infer_black(session: Untyped, outputs: list[str] | None, imgsz: tuple[int, int]) -> list[NDArray[Any]]:
    entry = picture_of(session)
    picture = np.zeros((1, CHANNELS, *imgsz), DTYPES[entry.type])
    answers: list[NDArray[Any]] = session.run(outputs, {entry.name: picture, **fillers(session, imgsz)})
    return answers


def sides_of(shape: Sequence[int | str | None]) -> tuple[int, ...]:
    """Return a shape with OPEN for each side that the file leaves open."""
    return tuple(side if isinstance(side, int) else OPEN for side in shape)


def output_shapes(session: Untyped, imgsz: tuple[int, int]) -> tuple[tuple[int, ...], ...]:
    """Return the outputs' shapes; sides that the file leaves open are found by one inference.

    With rows of objects, an open count stays open (-1), because it may depend on the picture.
    """
    said = [sides_of(output.shape) for output in session.get_outputs()]
    if all(sides and min(sides) >= 0 for sides in said):
        return tuple(said)
    seen = [tuple(one.shape) for one in _infer_black(session, None, imgsz)]
    return tuple(_open_rows(*pair) for pair in zip(said, seen, strict=True))


def _open_rows(said: tuple[int, ...], seen: tuple[int, ...]) -> tuple[int, ...]:
    is_open = len(seen) == len(said) == _ANSWER and said[1] < 0
    is_rows = is_open and (seen[2] == _ROW or (said[2] > 0 and seen[1] <= MAX_OBJECTS))
    return (seen[0], OPEN, seen[2]) if is_rows else seen
