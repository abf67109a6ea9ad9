"""Memory that sessions do not use returns to the system on request."""

import subprocess
import sys

import pytest

pytest.importorskip("agent.inference.backends.onnxruntime")

PROGRAM = """
import numpy as np, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from agent.inference.memory import process_memory
from agent.inference.backends import onnxruntime_arena as arena

ort.disable_telemetry_events()
arena.share()
arena.shrink()
ONE = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
OUT = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
shape = numpy_helper.from_array(np.array([16 << 20], np.int64), "shape")  # 64 MiB of floats between the two
nodes = [
    helper.make_node("Expand", ["x", "shape"], ["wide"]),
    helper.make_node("ReduceMax", ["wide"], ["y"], keepdims=1),
]
graph = helper.make_graph(nodes, "wide", [ONE], [OUT], [shape])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
options = ort.SessionOptions()
options.add_session_config_entry("session.use_env_allocators", "1")
options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
before = process_memory.process_bytes()
assert session.run(None, {"x": np.ones(1, np.float32)})[0][0] == 1
grown = process_memory.process_bytes() - before
arena.shrink()
print(grown >> 20, process_memory.process_bytes() - before >> 20)
"""


def test_an_arena_gives_back_what_no_run_uses() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=120)
    grown_mib, left_mib = map(int, done.stdout.split())
    assert grown_mib >= 60
    assert left_mib <= 8
