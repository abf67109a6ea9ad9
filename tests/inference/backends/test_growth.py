"""Inputs are bounded: their open sides by what tensors would take, their integers by what a runtime computes with."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from support.tensor_models import affine_model, attention_model, encoder_model, identity_model, masked_model

from agent.inference.backends.tensors import onnxruntime_tensors, openvino_tensors
from agent.inference.backends.tensors.tensor_model import WrongTensorsError
from agent.messages.references import ModelVersion
from agent.messages.web.open_sides import beyond_bound

ENCODER = encoder_model(64)


@pytest.mark.parametrize(
    ("model", "most"),
    [
        pytest.param(affine_model(), 0, id="no open side"),
        pytest.param(ENCODER, 1 << 20, id="256 bytes a token within"),
        pytest.param(attention_model(), 1 << 13, id="four bytes for each two tokens"),
        pytest.param(identity_model(TensorProto.FLOAT, ["n"]), 1 << 23, id="its output fills a block"),
        pytest.param(identity_model(TensorProto.UINT8, ["n", "h", "w", 3]), 1 << 23, id="several open sides"),
        pytest.param(masked_model(), 1 << 26, id="sides that only grow together"),
    ],
)
def test_a_models_open_sides_have_a_bound(tmp_path: Path, model: onnx.ModelProto, most: int) -> None:
    assert openvino_tensors.load(_version(tmp_path, model), "f32").most_open == most


def test_a_request_beyond_it_is_refused_before_it_is_inferred(tmp_path: Path) -> None:
    loaded = openvino_tensors.load(_version(tmp_path, attention_model()), "f32")
    answers = loaded.run({"x": np.ones((1, 16, 8), np.float32)}, ())
    assert answers["y"].shape == (1, 16)
    with pytest.raises(WrongTensorsError, match=r"inputs: 'x' is too large: .* 8193 elements .* 8192 at most"):
        loaded.run({"x": np.ones((1, 8193, 8), np.float32)}, ())
    loaded.close()


@pytest.mark.parametrize("number", [2**31, -(2**31) - 1, 2**63 - 1])
def test_an_integer_is_refused_that_the_runtime_would_cut_off(tmp_path: Path, number: int) -> None:
    loaded = openvino_tensors.load(_version(tmp_path, identity_model(TensorProto.INT64, ["n"])), "f32")
    widest = np.array([2**31 - 1, -(2**31)], np.int64)
    assert loaded.run({"INPUT0": widest}, ())["OUTPUT0"].tolist() == widest.tolist()
    with pytest.raises(WrongTensorsError, match="inputs: 'INPUT0' holds numbers beyond 2147483647"):
        loaded.run({"INPUT0": np.array([0, number], np.int64)}, ())
    loaded.close()
    other = onnxruntime_tensors.load(_version(tmp_path, identity_model(TensorProto.INT64, ["n"])), "cpu")
    assert other.run({"INPUT0": np.array([0, number], np.int64)}, ())["OUTPUT0"].tolist() == [0, number]
    other.close()


def test_sides_at_the_same_place_count_once() -> None:
    inputs = [("ids", (2, 100), (-1, -1)), ("mask", (2, 90), (-1, -1)), ("k", (1, 4), (1, 4))]
    assert beyond_bound(inputs, 200) == ""
    assert beyond_bound(inputs, 0) == ""
    assert beyond_bound(inputs, 199) == (
        "inputs: 'ids' is too large: the open sides have 200 elements together, of 199 at most"
    )


def _version(folder: Path, model: onnx.ModelProto) -> ModelVersion:
    path = folder / "model.onnx"
    onnx.save(model, path)
    return ModelVersion("m", "n", "1", str(path), "0" * 64)
