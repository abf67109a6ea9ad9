"""Models that answer one fixed array, whatever the picture, or what its brightness makes of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[np.float32]
Box = tuple[float, float, float, float]

SIDE = 320
CELLS = 40 * 40 + 20 * 20 + 10 * 10
FRAME = (576, 768)
"""Height and width of a frame whose right box is RIGHT; of a model that stretches pictures, STRETCHED."""
RIGHT: Box = (192.0, 144.0, 384.0, 432.0)
STRETCHED: Box = (192.0, 180.0, 384.0, 396.0)

_CORNERS = (80.0, 100.0, 160.0, 220.0)
_CENTRE = (120.0, 160.0, 80.0, 120.0)
_SHARES = (0.375, 0.5, 0.25, 0.375)
_AT = 1000
"""A row in the middle of the greatest cells."""


def by_ultralytics(names: Sequence[str], **said: object) -> dict[str, str]:
    """Return what each of ultralytics' exporters writes; `said` is what only some do."""
    facts = {"task": "detect", "stride": 32, "batch": 1, "imgsz": [SIDE, SIDE], "names": dict(enumerate(names)), **said}
    return {key: str(value) for key, value in facts.items()}


def columns(classes: int, score: float = 0.9, more: int = 0) -> Array:
    """Return v8's (1, 4 + classes + more, cells): one box of class 0."""
    answer: Array = _dense(4 + classes + more, CELLS, (*_CENTRE, score)).transpose(0, 2, 1)
    return answer


def anchors(classes: int, score: float = 0.9, rows: int = 3 * CELLS) -> Array:
    """Return v5's (1, rows, 5 + classes)."""
    return _dense(5 + classes, rows, (*_CENTRE, 1.0, score))


def rows(score: float = 0.9, label: int = 0, count: int = 300) -> Array:
    """Return (1, count, 6): corners, score, label."""
    return _dense(6, count, (*_CORNERS, score, label), at=0)


def queries(classes: int, score: float = 0.9) -> Array:
    """Return RT-DETR's (1, 300, 4 + classes): shares, a score a class."""
    return _dense(4 + classes, 300, (*_SHARES, score))


def query_rows(score: float = 0.9, label: int = 0) -> Array:
    """Return RT-DETR's (1, 300, 6): shares, score, label."""
    return _dense(6, 300, (*_SHARES, score, label), at=0)


def yolox(classes: int, score: float = 0.9) -> Array:
    """Return YOLOX's raw (1, cells, 5 + classes): what RIGHT is where pictures lie in the corner, of cell (15, 15)."""
    answer = np.zeros((1, CELLS, 5 + classes), np.float32)
    answer[0, 15 * 40 + 15] = (0, 0, np.log(80 / 8), np.log(120 / 8), 1.0, score, *[0.0] * (classes - 1))
    return answer


def noise(shape: tuple[int, ...], low: float, high: float) -> Array:
    """Return numbers between two, the same each time."""
    return np.random.default_rng(7).uniform(low, high, shape).astype(np.float32)


def _dense(width: int, count: int, row: Sequence[float], at: int = _AT) -> Array:
    answer = np.zeros((1, count, width), np.float32)
    answer[0, min(at, count - 1), : len(row)] = row
    return answer


def write_answer(  # noqa: PLR0913 - each option is one way for a file to be odd
    path: Path,
    answer: Array,
    said: dict[str, str] | None = None,
    *,
    uint8: bool = False,
    divisor: float | None = None,
    others: Sequence[tuple[int, ...]] = (),
    open_rows: bool = False,
) -> Path:
    """Write an ONNX file that answers `answer`; returns `path`.

    `divisor`: scores are those of `answer` times the picture's mean over it, as a graph that scales by itself computes.
    `uint8`: takes integers. `others`: further outputs, of zeros. `open_rows`: rows are there on bright pictures only.
    """
    kind = TensorProto.UINT8 if uint8 else TensorProto.FLOAT
    given = ["batch", "rows", answer.shape[2]] if open_rows else list(answer.shape)
    constants, nodes = _how(answer, divisor, open_rows=open_rows)
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, given)]
    for index, shape in enumerate(others):
        constants[f"zeros{index}"] = np.zeros(shape, np.float32)
        nodes.append(helper.make_node("Add", [f"zeros{index}", "nothing"], [f"output{index + 1}"]))
        outputs.append(helper.make_tensor_value_info(f"output{index + 1}", TensorProto.FLOAT, shape))
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
            helper.make_node("Mul", ["mean", "zero"], ["nothing"]),  # an answer hangs on the picture, or it is dropped
            *nodes,
        ],
        "answering",
        [helper.make_tensor_value_info("images", kind, [1, 3, SIDE, SIDE])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, said or {})
    onnx.save(model, path)
    return path


def _how(
    answer: Array, divisor: float | None, *, open_rows: bool
) -> tuple[dict[str, NDArray[np.generic]], list[onnx.NodeProto]]:
    """Return constants, and the nodes that make `output0` of them and of the picture's `mean`."""
    constants: dict[str, NDArray[np.generic]] = {"zero": np.float32(0).reshape(()), "answer": answer}
    if open_rows:
        constants |= {"half": np.array(0.5, np.float32), "flat": np.array([answer.shape[1]], np.int64)}
        return constants, [
            helper.make_node("Greater", ["mean", "half"], ["bright"]),
            helper.make_node("Expand", ["bright", "flat"], ["keep"]),
            helper.make_node("Compress", ["answer", "keep"], ["output0"], axis=1),
        ]
    if divisor is None:
        return constants, [helper.make_node("Add", ["answer", "nothing"], ["output0"])]
    scores = np.zeros_like(answer)
    scores[:, 4:] = 1
    constants |= {"divisor": np.array(divisor, np.float32), "scores": scores, "rest": 1 - scores}
    return constants, [
        helper.make_node("Div", ["mean", "divisor"], ["level"]),
        helper.make_node("Mul", ["scores", "level"], ["lit"]),
        helper.make_node("Add", ["lit", "rest"], ["all"]),
        helper.make_node("Mul", ["answer", "all"], ["output0"]),
    ]
