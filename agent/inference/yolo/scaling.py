"""Detection of graphs that scale pixels themselves; scaled twice, a picture would be black."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_BYTE_LIKE: Final = 16.0  # shares of 1 are never divided by so much, nor is so much taken from them
_NOT_ZERO: Final = 1e-4
_MOST_STEPS: Final = 64
_PASSING: Final = frozenset(
    {
        *("Cast", "Convert", "Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Pad"),
        *("Slice", "StridedSlice", "Gather", "Split", "VariadicSplit", "Concat", "SpaceToDepth", "ReorgYolo"),
        *("ReduceMean", "AveragePool", "AvgPool", "GlobalAveragePool", "MaxPool", "Resize", "Interpolate", "Upsample"),
    }
)
_DIVIDE: Final = frozenset({"Div", "Divide"})
_MULTIPLY: Final = frozenset({"Mul", "Multiply"})
_SHIFT: Final = frozenset({"Sub", "Subtract", "Add"})
_NORMS: Final = frozenset({"BatchNormalization", "BatchNormInference"})

Constant = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One operation on what came from the input: its constants, in their order, and the name of what it gives."""

    kind: str
    constants: tuple[Constant, ...]
    outputs: tuple[str, ...]


def takes_bytes(entry: str, followers: Mapping[str, Iterable[Step]]) -> bool:
    """Follow the tensor `entry` until something else than moving, averaging and scaling is done to it.

    `followers`: by a tensor's name, what takes it.
    """
    waiting, seen = [entry], {entry}
    for _ in range(_MOST_STEPS):
        if not waiting:
            return False
        for step in followers.get(waiting.pop(), ()):
            if _scales_bytes(step):
                return True
            if _keeps_range(step):
                waiting += [name for name in step.outputs if name not in seen]
                seen |= set(step.outputs)
    return False


def _keeps_range(step: Step) -> bool:
    is_scale = step.kind in _DIVIDE | _MULTIPLY | _SHIFT and len(step.constants) == 1
    return step.kind in _PASSING or (is_scale and (step.kind in _SHIFT or bool(step.constants[0].any())))


def _scales_bytes(step: Step) -> bool:
    largest = [float(np.abs(constant).max(initial=0)) for constant in step.constants]
    if step.kind in _NORMS:
        return max(largest, default=0.0) >= _BYTE_LIKE  # its mean: that of pixels
    if len(largest) != 1:
        return False
    if step.kind in _MULTIPLY:
        return _NOT_ZERO < largest[0] <= 1 / _BYTE_LIKE
    return step.kind in _DIVIDE | _SHIFT and largest[0] >= _BYTE_LIKE
