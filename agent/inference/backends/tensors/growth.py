"""Growth of a model's tensors with the open sides of its inputs, found by shapes alone: nothing is allocated."""

import math
from typing import Final

from agent.inference.backends.detector import Untyped
from agent.processes.slots.request_memory import BLOCK_BYTES

_MOST_BYTES: Final = 256 << 20
"""Most bytes of one tensor within a model, for a request."""
_SIDES: Final = tuple(1 << power for power in range(26))
"""Sides that are tried; the largest has the elements of a block."""


def most_open_elements(graph: Untyped) -> int:
    """Return the largest product of the open sides of an OpenVINO graph's inputs; 0: unknown, or none is open.

    The sides that tensors grow with are multiplied, so a bound for each side alone holds for their product too.
    """
    shapes = {one.get_any_name(): one.get_partial_shape() for one in graph.inputs if one.get_names()}
    axes = {
        axis for shape in shapes.values() if shape.rank.is_static for axis, side in enumerate(shape) if side.is_dynamic
    }
    if not axes or len(shapes) != len(graph.inputs):
        return 0
    model = graph.clone()
    alone = [_largest_side(model, shapes, {axis}) for axis in axes]
    if min(alone) > 1:
        return min(alone)
    together = _largest_side(model, shapes, axes)
    return int(together ** len(axes)) if together > 1 else 0


def _largest_side(model: Untyped, shapes: dict[str, Untyped], axes: set[int]) -> int:
    """Return the largest side for `axes`, the other open ones being 1; 0 where no side is possible."""
    largest = 0
    for side in _SIDES:
        try:
            model.reshape({name: _closed(shape, axes, side) for name, shape in shapes.items()})
        except RuntimeError:  # because a model may take no such sides, or ask for equal ones elsewhere
            if largest:
                break
            continue
        if not _fits(model):
            break
        largest = side
    return largest


def _closed(shape: Untyped, axes: set[int], side: int) -> list[int]:
    return [one.get_length() if one.is_static else (side if axis in axes else 1) for axis, one in enumerate(shape)]


def _fits(model: Untyped) -> bool:
    for operation in model.get_ops():
        kind = operation.get_type_name()
        if kind != "Constant":
            most_bytes = BLOCK_BYTES if kind == "Result" else _MOST_BYTES
            if any(_size_bytes(output) > most_bytes for output in operation.outputs()):
                return False
    return True


def _size_bytes(output: Untyped) -> int:
    """Return the bytes of a tensor; 0 where its shape depends on its content."""
    shape = output.get_partial_shape()
    return math.prod(output.get_shape()) * output.get_element_type().size if shape.is_static else 0
