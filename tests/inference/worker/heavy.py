"""Tiny models with a weight in the graph that no runtime can do without: their bytes are real."""

from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS: Final = 3072  # squared, float32: 36 MiB


def add_weight(path: Path, seed: int) -> None:
    """Let the answer hang on a matrix: mean -> row of WEIGHTS -> matrix -> mean, in place of the mean."""
    model = onnx.load(path)
    matrix = np.random.default_rng(seed).standard_normal((WEIGHTS, WEIGHTS), np.float32)
    constants = {"matrix": matrix, "row": np.ones((1, WEIGHTS), np.float32), "one": np.array([1, 1], np.int64)}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    nodes = [
        helper.make_node("Reshape", ["mean", "one"], ["cell"]),
        helper.make_node("Mul", ["cell", "row"], ["cells"]),
        helper.make_node("MatMul", ["cells", "matrix"], ["product"]),
        helper.make_node("ReduceMean", ["product"], ["means"], keepdims=1),
    ]
    first, rest = model.graph.node[0], list(model.graph.node[1:])
    rest[0].input[0] = "means"
    del model.graph.node[:]
    model.graph.node.extend([first, *nodes, *rest])
    assert model.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    onnx.save(model, path)
