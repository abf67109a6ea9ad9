"""Classifiers get the colours that their exporter trained them with, and the middle of a wide picture."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from agent.inference import backends
from agent.inference.backends import Model
from agent.messages.references import ModelVersion

SIDE: Final = 32
NAMES: Final = {"names": "{0: 'red', 1: 'green', 2: 'blue'}"}
BY_ULTRALYTICS: Final = NAMES | {"task": "classify", "description": "Ultralytics YOLO11n-cls model"}
MEAN: Final = np.array((0.485, 0.456, 0.406))
SPREAD: Final = np.array((0.229, 0.224, 0.225))
COLOUR: Final = (200, 100, 10)
"""Red, green, blue of the middle of the picture."""

VersionOf = Callable[..., ModelVersion]


def write(path: Path, said: dict[str, str], *, softmax: bool) -> Path:
    """Write a model whose numbers are the means of red, green and blue."""
    nodes = [helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0)]
    nodes.append(helper.make_node("Softmax" if softmax else "Identity", ["means"], ["output0"]))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, said)
    onnx.save(model, path)
    return path


def wide_picture() -> NDArray[np.uint8]:
    """Draw a picture twice as wide as high, of COLOUR in its middle and of blue elsewhere."""
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[..., 0] = 255
    picture[:, 20:60] = COLOUR[::-1]
    return picture


@pytest.fixture(params=["openvino", "onnxruntime"])
def load(request: pytest.FixtureRequest, version: VersionOf, tmp_path: Path) -> Iterator[Callable[[Path], Model]]:
    pytest.importorskip(f"agent.inference.backends.{request.param}")
    loaded: list[Model] = []

    def load_one(path: Path) -> Model:
        loaded.append(backends.load(version(path, backend=request.param), "cpu", tmp_path))
        return loaded[-1]

    yield load_one
    for model in loaded:
        model.close()


def softmax(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    powers: NDArray[np.float64] = np.exp(numbers - numbers.max())
    shares: NDArray[np.float64] = powers / powers.sum()
    return shares


@pytest.mark.parametrize("is_v5", [False, True], ids=["ultralytics", "yolov5"])
def test_scores_are_those_of_the_exporters_colours(
    load: Callable[[Path], Model], tmp_path: Path, *, is_v5: bool
) -> None:
    said = NAMES | {"stride": "32"} if is_v5 else BY_ULTRALYTICS
    model = load(write(tmp_path / "a.onnx", said, softmax=not is_v5))
    top = model.check_outputs(wide_picture()).top
    assert top is not None
    shares = np.array(COLOUR) / 255
    expected = softmax((shares - MEAN) / SPREAD if is_v5 else shares)
    assert top.classes.tolist() == np.argsort(-expected).tolist()
    np.testing.assert_allclose(top.scores, np.sort(expected)[::-1], atol=5e-3)  # bfloat16 where the processor has it
