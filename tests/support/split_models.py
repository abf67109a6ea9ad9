"""Models whose output is split as exporters of detection transformers and YOLO-NAS split it, built node by node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE: Final = 64
PROBED: Final = (0.25, 0.2)
"""Summands of a probed number: the first, and the second times the mean of the input's first plane."""


@dataclass(frozen=True)
class Given:
    """One output: its numbers, whether they are whole, and the index of the number that probes the picture."""

    numbers: NDArray[np.floating]
    is_whole: bool = False
    probe: int | None = None
    is_scaled: bool = False
    """Multiplied by `orig_target_sizes`, as corners are."""


@dataclass(frozen=True)
class Taken:
    """The inputs of a file: the picture's name and type, and what stands beside it; bytes are divided by 255."""

    picture: str
    kind: int = TensorProto.FLOAT
    sides: tuple[int | str, ...] = (1, 3, SIDE, SIDE)
    beside: Mapping[str, tuple[int | str, ...]] | None = None
    rows: str = ""
    """Name of the side that each output leaves open; empty where all are fixed."""


def write(path: Path, taken: Taken, given: Mapping[str, Given], metadata: Mapping[str, str] | None = None) -> Path:
    """Write an ONNX file with these ends; its numbers hang on the picture, or runtimes would drop the input."""
    nodes = [
        helper.make_node("Cast", [taken.picture], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["floats", "most"], ["scaled"]),
        helper.make_node("ReduceMean", ["scaled"], ["planes"], axes=[2, 3], keepdims=0),
        helper.make_node("Slice", ["planes", "zero", "one", "one"], ["first"]),
        helper.make_node("Reshape", ["first", "one"], ["less"]),
        helper.make_node("Neg", ["less"], ["more"]),  # so that what follows is no scale of pixels
        helper.make_node("Neg", ["more"], ["plane"]),
    ]
    most = np.full(1, 255.0 if taken.kind == TensorProto.UINT8 else 1.0, np.float32)
    constants = {"zero": np.zeros(1, np.int64), "one": np.ones(1, np.int64), "most": most}
    if any(one.is_scaled for one in given.values()):
        nodes += [
            helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["sizes", "sizes"], ["twice"], axis=1),
            helper.make_node("Unsqueeze", ["twice", "one"], ["scale"]),
        ]
    for name, one in given.items():
        nodes += _nodes_of(name, one)
        gains = np.zeros(one.numbers.shape, np.float32)
        if one.probe is not None:
            gains.flat[one.probe] = PROBED[1]
        constants |= {f"{name}_numbers": one.numbers.astype(np.float32), f"{name}_gains": gains}
    inputs = [helper.make_tensor_value_info(taken.picture, taken.kind, list(taken.sides))]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.INT64, list(sides))
        for name, sides in (taken.beside or {}).items()
    ]
    outputs = [
        helper.make_tensor_value_info(
            name, TensorProto.INT64 if one.is_whole else TensorProto.FLOAT, _sides(one.numbers.shape, taken.rows)
        )
        for name, one in given.items()
    ]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "split", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, dict(metadata))
    onnx.save(model, path)
    return path


def _nodes_of(name: str, one: Given) -> list[onnx.NodeProto]:
    last = f"{name}_sum" if one.is_whole or one.is_scaled else name
    nodes = [
        helper.make_node("Mul", ["plane", f"{name}_gains"], [f"{name}_probe"]),
        helper.make_node("Add", [f"{name}_numbers", f"{name}_probe"], [last]),
    ]
    if one.is_scaled:
        nodes.append(helper.make_node("Mul", [last, "scale"], [name]))
    if one.is_whole:
        nodes.append(helper.make_node("Cast", [last], [name], to=TensorProto.INT64))
    return nodes


def _sides(shape: Sequence[int], rows: str) -> list[int | str]:
    at = min(1, len(shape) - 1) if len(shape) != 2 or shape[0] == 1 else 0
    return [rows if rows and number == at else side for number, side in enumerate(shape)]
