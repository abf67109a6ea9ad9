"""Tensors of requests lie where their message says, or are refused."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from support.tensor_models import encoder_model, identity_model

from agent.files import file_sha256
from agent.inference import backends
from agent.inference.backends.tensors.tensor_model import TensorModel, WrongTensorsError
from agent.inference.memory import process_memory
from agent.inference.requests import tensor_blocks
from agent.messages.references import ModelVersion
from agent.messages.web import byte_elements
from agent.messages.web.requests import InferTensors, TensorAt
from agent.processes.slots.request_memory import BLOCK_BYTES


def block() -> memoryview:
    return memoryview(bytearray(BLOCK_BYTES))


def request(*inputs: TensorAt) -> InferTensors:
    return InferTensors(1, 0, "m:n@1", inputs, (), 0)


def texts(*words: object) -> NDArray[np.object_]:
    array = np.empty(len(words), np.object_)
    array[:] = words
    return array


def test_what_is_written_is_read_again() -> None:
    made = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": texts("hé", "", "\0x").reshape(1, 3)}
    memory = block()
    placed = tensor_blocks.write(made, memory)
    assert [(one.datatype, one.shape, one.offset) for one in placed] == [("FP32", (2, 3), 0), ("BYTES", (1, 3), 64)]
    found = tensor_blocks.read(request(*placed), memory)
    assert found["a"].tolist() == made["a"].tolist()
    assert found["b"].tolist() == [["hé", "", "\0x"]]


@pytest.mark.parametrize(
    "one",
    [
        TensorAt("x", "FP32", (2,), 0, 4),
        TensorAt("x", "FP32", (-1,), 0, 4),
        TensorAt("x", "FP32", (1,) * 17, 0, 4),
        TensorAt("x", "FP32", (1,), -4, 4),
        TensorAt("x", "FP32", (1,), BLOCK_BYTES, 4),
        TensorAt("x", "BF16", (1,), 0, 2),
        TensorAt("x", "BYTES", (1,), 0, 3),
        TensorAt("x", "BYTES", (1,), 0, -1),
        TensorAt("x", "BYTES", (1,), BLOCK_BYTES, 8),
        TensorAt("x", "BYTES", (2,), 0, 4),
    ],
)
def test_what_does_not_lie_in_the_block_is_refused(one: TensorAt) -> None:
    with pytest.raises(WrongTensorsError, match="'x'"):
        tensor_blocks.read(request(one), block())


def test_bytes_that_are_no_text_are_refused() -> None:
    memory = block()
    raw = byte_elements.joined([b"\xff"])
    memory[: len(raw)] = raw
    with pytest.raises(WrongTensorsError, match="UTF-8"):
        tensor_blocks.read(request(TensorAt("x", "BYTES", (1,), 0, len(raw))), memory)


@pytest.mark.parametrize("backend", ["auto", "onnxruntime"])
def test_a_model_of_texts_is_served_by_onnx_runtime(backend: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("model")
    path = folder / "text.onnx"
    onnx.save(identity_model(TensorProto.STRING, [1, "n"]), path)
    version = ModelVersion("text", "n", "1", str(path), file_sha256(path), backend=backend, is_tensors=True)
    model = backends.load(version, "cpu", folder)
    assert isinstance(model, TensorModel)
    model.check_outputs(np.zeros((64, 64, 3), np.uint8))
    assert model.run({"INPUT0": texts("hé", "").reshape(1, 2)}, ())["OUTPUT0"].tolist() == [["hé", ""]]
    model.close()


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_what_a_large_input_took_is_given_back(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(backend)
    path = tmp_path / "encoder.onnx"
    onnx.save(encoder_model(), path)
    version = ModelVersion("text", "n", "1", str(path), file_sha256(path), backend=backend, is_tensors=True)
    model = backends.load(version, "cpu", tmp_path)
    assert isinstance(model, TensorModel)
    model.check_outputs(np.zeros((64, 64, 3), np.uint8))
    small = model.run({"tokens": np.ones((1, 5), np.int64)}, ())["mean"]
    before_bytes = process_memory.process_bytes()
    large = model.run({"tokens": np.ones((1, 300_000), np.int64)}, ())["mean"]
    assert model.gave_back
    process_memory.trim()
    grown_bytes = process_memory.process_bytes() - before_bytes
    assert grown_bytes < 40 << 20  # of 150 MB
    np.testing.assert_allclose(large, small, rtol=1e-2, atol=1e-3)
    np.testing.assert_array_equal(model.run({"tokens": np.ones((1, 5), np.int64)}, ())["mean"], small)
    assert not model.gave_back
    model.close()
