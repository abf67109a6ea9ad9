"""Inputs and outputs of raw tensors have the names that the file gives them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from agent.inference.backends.tensors import onnxruntime_tensors, openvino_tensors
from agent.inference.backends.tensors.tensor_model import TensorModel
from agent.messages.references import ModelVersion


@pytest.mark.parametrize("load", [openvino_tensors.load, onnxruntime_tensors.load])
def test_a_port_has_its_own_name_though_the_runtime_leaves_nodes_out(
    tmp_path: Path, load: Callable[[ModelVersion, str], TensorModel]
) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["z"]),
        helper.make_node("Identity", ["a"], ["y"]),
        helper.make_node("Neg", ["x"], ["/head/neg"]),
        helper.make_node("Identity", ["/head/neg"], ["output"]),
    ]
    taken = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2])]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("z", "y", "output")]
    graph = helper.make_graph(nodes, "graph", taken, given)
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    model = load(ModelVersion("m", "n", "1", str(path), "0" * 64), "cpu")
    assert [port.name for port in (*model.inputs, *model.outputs)] == ["x", "z", "y", "output"]
    answers = model.run({"x": np.array([[-1, 2]], np.float32)}, ("output", "y"))
    assert {name: answer.tolist() for name, answer in answers.items()} == {"output": [[1, -2]], "y": [[0, 2]]}
    model.close()
