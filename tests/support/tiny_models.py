"""Models that answer the same whatever they see: small enough to build in a test, and known to the pixel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.files import file_sha256
from agent.messages.references import ModelFile, ModelVersion
from agent.models import model_files

Box = tuple[float, float, float, float, float, int]  # x1, y1, x2, y2 in pixels of the input, score, class
STRIDES = (8, 16, 32)
OBJECTS = 300


def write_tiny_model(  # noqa: PLR0913 - each option is one way for a model to be odd
    path: Path,
    names: Sequence[str] = ("cap", "no-cap"),
    boxes: Sequence[Box] = ((8, 16, 40, 48, 0.9, 0),),
    *,
    imgsz: int = 64,
    end2end: bool = False,
    half: bool = False,
    nan: bool = False,
    shape: tuple[int, ...] | None = None,
    task: str = "detect",
    metadata: bool = True,
    dynamic: bool = False,
) -> Path:
    """Write an ONNX detection model whose answer is `boxes`, whatever the picture; returns `path`.

    `half`: float16 in and out. `nan`: one number that is no candidate's is NaN. `shape`: answers zeros of that shape.
    `dynamic`: the file leaves the sizes of picture and answer open.
    """
    answer = _rows(boxes) if end2end else _anchors(boxes, len(names), imgsz)
    if shape is not None:
        answer = np.zeros(shape, np.float32)
    if nan:
        answer[0, 0, -1] = np.nan
    model = _graph(answer.astype(np.float16 if half else np.float32), imgsz, dynamic=dynamic)
    facts = {"names": repr(dict(enumerate(names))), "task": task, "imgsz": repr([imgsz, imgsz]), "stride": "32"}
    if end2end:
        facts["end2end"] = "True"
    elif shape is None:
        facts["description"] = "Ultralytics YOLO11n model"  # or as many anchors as columns could be RT-DETR's rows
    if metadata:
        helper.set_model_props(model, facts)
    onnx.save(model, path)
    return path


def _anchors(boxes: Sequence[Box], classes: int, imgsz: int) -> NDArray[np.float32]:
    answer = np.zeros((1, 4 + classes, sum((imgsz // stride) ** 2 for stride in STRIDES)), np.float32)
    for column, (x1, y1, x2, y2, score, index) in enumerate(boxes):
        answer[0, :4, column] = (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1
        answer[0, 4 + index, column] = score
    return answer


def _rows(boxes: Sequence[Box]) -> NDArray[np.float32]:
    answer = np.zeros((1, OBJECTS, 6), np.float32)
    for row, box in enumerate(boxes):
        answer[0, row] = box
    return answer


def _graph(answer: NDArray[np.floating], imgsz: int, *, dynamic: bool) -> onnx.ModelProto:
    kind = helper.np_dtype_to_tensor_dtype(answer.dtype)
    constants = {
        "zero": np.zeros(1, answer.dtype),
        "flat": np.array([1] * answer.ndim, np.int64),
        "answer": answer,
    }
    taken: list[int | str] = ["batch", 3, "height", "width"] if dynamic else [1, 3, imgsz, imgsz]
    given: list[int | str] = ["batch", "rows", "columns"] if dynamic else list(answer.shape)
    graph = helper.make_graph(
        [  # the answer must hang on the picture, or runtimes drop the input
            helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=1),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
            helper.make_node("Reshape", ["nothing", "flat"], ["flattened"]),
            helper.make_node("Add", ["flattened", "answer"], ["output0"]),
        ],
        "tiny",
        [helper.make_tensor_value_info("images", kind, taken)],
        [helper.make_tensor_value_info("output0", kind, given)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    assert kind in {TensorProto.FLOAT, TensorProto.FLOAT16}
    return model


def write_endless_model(path: Path, names: Sequence[str] = ("cap", "no-cap")) -> Path:
    """Write an ONNX detection model whose graph loops for ever once it is given a picture; returns `path`."""
    model = onnx.load(write_tiny_model(path, names))
    step = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["still_goes_on"]),
            helper.make_node("Add", ["kept", "zero"], ["kept_on"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("at", TensorProto.INT64, []),
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still_goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept_on", TensorProto.FLOAT, None),
        ],
    )
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array(np.iinfo(np.int64).max), "most"))
    graph.initializer.append(numpy_helper.from_array(np.array(True), "begins"))
    add = graph.node.pop()  # the answer, which now comes out of the loop
    graph.node.append(helper.make_node("Loop", ["most", "begins", "flattened"], ["looped"], body=step))
    graph.node.append(helper.make_node("Add", ["looped", "answer"], list(add.output)))
    onnx.save(model, path)
    return path


def version_of(path: Path, **options: object) -> ModelVersion:
    """Catalog entry for a file, and for what lies beside it; `options` are ModelVersion's fields."""
    fields: dict[str, object] = {"name": "tiny", "variant": "n", "version": "1", "path": str(path), "sha256": ""}
    if path.suffix == ".xml" and path.exists():
        names = model_files.companions(path)
        fields["files"] = tuple(ModelFile(name, file_sha256(path.parent / name)) for name in names)
    return ModelVersion(**(fields | options))  # type: ignore[arg-type]
