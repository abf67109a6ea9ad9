"""Models that take and give raw tensors, for requests."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def write_affine_model(path: Path) -> Path:
    """Write `affine_model` to a file; return its path."""
    onnx.save(affine_model(), path)
    return path


def affine_model() -> onnx.ModelProto:
    """Return y = 2 x + k, and the count of k, of float32 (1, 4) and int64 (4,)."""
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Cast", ["k"], ["kf"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["twice", "kf"], ["y"]),
        helper.make_node("Add", ["k", "k"], ["kk"]),
    ]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("k", TensorProto.INT64, [4]),
    ]
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4]),
        helper.make_tensor_value_info("kk", TensorProto.INT64, [4]),
    ]
    return _model(nodes, inputs, outputs)


def open_model() -> onnx.ModelProto:
    """Return the mean of tokens' numbers over an open length: int64 (1, -1) to float32 (1, 1)."""
    nodes = [
        helper.make_node("Cast", ["tokens"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["floats"], ["mean"], axes=[1], keepdims=1),
    ]
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"])]
    outputs = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 1])]
    return _model(nodes, inputs, outputs)


def encoder_model(width: int = 64) -> onnx.ModelProto:
    """Return the mean over an open length of `width` numbers a token: int64 (1, -1) to float32 (1, `width`)."""
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["numbers"]),
        helper.make_node("MatMul", ["numbers", "table"], ["mixed"]),
        helper.make_node("Tanh", ["mixed"], ["bent"]),
        helper.make_node("MatMul", ["bent", "table"], ["last"]),
        helper.make_node("ReduceMean", ["last"], ["mean"], axes=[1], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, "length"])]
    outputs = [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, width])]
    model = _model(nodes, inputs, outputs)
    table = np.random.default_rng(0).normal(size=(width, width)).astype(np.float32)
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    return model


def attention_model() -> onnx.ModelProto:
    """Return the mean weight of each token for all: float32 (1, -1, 8) to (1, -1), by the square of the length."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=2),
        helper.make_node("ReduceMean", ["weights"], ["y"], axes=[2], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "length", 8])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "length"])]
    return _model(nodes, inputs, outputs)


def masked_model() -> onnx.ModelProto:
    """Return x weighted by a mask of the same open length: float32 (1, -1) and (-1, -1) to (1, -1)."""
    nodes = [helper.make_node("MatMul", ["x", "mask"], ["y"])]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, "length"]),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, ["length", "length"]),
    ]
    return _model(nodes, inputs, [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, "length"])])


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def identity_model(kind: int, shape: list[int | str], inputs: int = 1) -> onnx.ModelProto:
    """Return OUTPUT0 = INPUT0, OUTPUT1 = INPUT1 and so on, of an element type and a shape."""
    nodes = [helper.make_node("Identity", [f"INPUT{at}"], [f"OUTPUT{at}"]) for at in range(inputs)]
    taken = [helper.make_tensor_value_info(f"INPUT{at}", kind, shape) for at in range(inputs)]
    given = [helper.make_tensor_value_info(f"OUTPUT{at}", kind, shape) for at in range(inputs)]
    return _model(nodes, taken, given)
