"""Reader of the operations in an ONNX file, because ONNX Runtime does not expose its graph.

The field numbers are those of onnx.proto3. Tensors of more than a few numbers are skipped.
"""

import mmap
from collections import defaultdict
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from agent.inference.yolo.scaling import Constant, Step
from agent.models.onnx_file import NotOnnxError, fields

_MODEL_GRAPH: Final = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_TENSOR: Final = 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_DOUBLES = 1, 2, 4, 8, 9, 10
_DTYPES: Final = {1: np.float32, 10: np.float16, 11: np.float64}
_MOST_BYTES: Final = 256


def steps_of(path: Path) -> dict[str, list[Step]]:
    """Return, for each tensor's name, the operations that consume the tensor. Raises OSError and ValueError."""
    with path.open("rb") as file:
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))  # closed by its last view
    try:
        graph = next((value for field, value in fields(mapped) if field == _MODEL_GRAPH), memoryview(b""))
        return _steps(_view(graph))
    except (IndexError, NotOnnxError):
        raise ValueError("is no ONNX file") from None


def _steps(graph: memoryview) -> dict[str, list[Step]]:
    constants: dict[str, Constant] = {}
    followers: dict[str, list[Step]] = defaultdict(list)
    nodes = []
    for field, value in fields(graph):
        if field == _GRAPH_NODE:
            nodes.append(_view(value))
        elif field == _GRAPH_INITIALIZER:
            constants.update(_tensor(_view(value)))
    for node in map(_node, nodes):
        constants.update(dict.fromkeys(node.outputs, node.tensor) if node.tensor is not None else {})
        known = tuple(constants[name] for name in node.inputs if name in constants)
        for name in node.inputs:
            followers[name].append(Step(node.kind, known, node.outputs))
    return followers


class _Node(NamedTuple):
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensor: Constant | None


def _node(view: memoryview) -> _Node:
    """Parse a NodeProto; `tensor` is set for a small constant."""
    texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_KIND: []}
    tensor = None
    for field, value in fields(view):
        if field in texts:
            texts[field].append(_text(value))
        elif field == _NODE_ATTRIBUTE:
            tensor = next(
                (_tensor(_view(part)) for at, part in fields(_view(value)) if at == _ATTRIBUTE_TENSOR), tensor
            )
    kind = "".join(texts[_NODE_KIND])
    values = list(tensor.values()) if tensor and kind == "Constant" else []
    return _Node(kind, tuple(texts[_NODE_INPUT]), tuple(texts[_NODE_OUTPUT]), values[0] if values else None)


def _tensor(view: memoryview) -> dict[str, Constant]:
    """Return a TensorProto's numbers by its name; empty unless it is small and floating-point."""
    name, dtype, numbers = "", None, b""
    for field, value in fields(view):
        if field == _TENSOR_NAME:
            name = _text(value)
        elif field == _TENSOR_TYPE and isinstance(value, int):
            dtype = _DTYPES.get(value)
        elif field in {_TENSOR_RAW, _TENSOR_FLOATS, _TENSOR_DOUBLES} and not isinstance(value, int):
            numbers += bytes(value[: _MOST_BYTES + 1])
    if dtype is None or not numbers or len(numbers) > _MOST_BYTES or len(numbers) % np.dtype(dtype).itemsize:
        return {}
    return {name: np.frombuffer(numbers, dtype).astype(np.float64)}


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("is no ONNX file")  # noqa: TRY004 - the bytes are wrong, not our types
    return value


def _text(value: int | memoryview) -> str:
    return str(_view(value), "utf-8", "replace")
