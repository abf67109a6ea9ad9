"""Detects graphs that scale pixels themselves, because a picture that is scaled twice is black."""

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
    """One operation of a graph."""

    kind: str
    """Type of the operation, such as Div."""
    constants: tuple[Constant, ...]
    """Constant inputs, in their order."""
    outputs: tuple[str, ...]
    """Names of the output tensors."""


def takes_bytes(entry: str, followers: Mapping[str, Iterable[Step]]) -> bool:
    """Return True where the graph scales its input `entry` from 0 to 255, so that it takes pixels as they are.

    The search follows operations that move, average or scale. `followers`: the operations that consume a tensor, by
    its name.
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
        return max(largest, default=0.0) >= _BYTE_LIKE  # because its mean is that of pixels
    if len(largest) != 1:
        return False
    if step.kind in _MULTIPLY:
        return _NOT_ZERO < largest[0] <= 1 / _BYTE_LIKE
    return step.kind in _DIVIDE | _SHIFT and largest[0] >= _BYTE_LIKE
