"""Small detection models whose answers depend on every colour of the picture, in the layouts of dense heads."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

STRIDES = (8, 16, 32)


def write_seeing_model(  # noqa: PLR0913 - each option is one way for a model to be
    path: Path,
    *,
    seed: int = 0,
    imgsz: int = 64,
    classes: int = 3,
    hidden: int = 16,
    head: str = "anchors",
    takes_bytes: bool = False,
    half: bool = False,
    dynamic: bool = False,
) -> Path:
    """Write an ONNX model with one candidate a cell: boxes near their cells, scores by the colours there.

    `head`: "anchors" (v8), "objectness" (v5), "rows" (objects, end to end). `hidden`: more is more weights.
    """
    dice = np.random.default_rng(seed)
    kind = np.dtype(np.float16 if half else np.float32)
    rows = 4 + classes + (head == "objectness")
    grid = _grid(imgsz)
    count = grid.shape[1]
    base = np.zeros((1, rows, count), kind)
    base[0, :4] = grid
    scale = np.full((1, rows, 1), 1, kind)
    scale[0, :4] = 3
    constants: dict[str, NDArray[Any]] = {
        "mix": dice.normal(0, 1.5, (1, hidden, 3)).astype(kind),
        "shift": dice.normal(0, 0.5, (1, hidden, 1)).astype(kind),
        "out": dice.normal(0, 2 / np.sqrt(hidden), (1, rows, hidden)).astype(kind),
        "base": base,
        "scale": scale,
        "flat": np.array([1, 3, -1], np.int64),
        "scales": np.ones(4, np.float32),
        "split": np.array([4, rows - 4], np.int64),
        "byte": np.array(255, kind),
        "grey": np.array(114 / 255, kind),
        "strength": np.array(20, kind),
        "least": np.array(4, kind),
    }
    nodes = [helper.make_node("Resize", ["images", "", "scales"], ["resized"], mode="nearest")]
    seen = "resized"
    if takes_bytes:
        nodes.append(helper.make_node("Div", [seen, "byte"], ["shares"]))
        seen = "shares"
    for stride in STRIDES:
        sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", [seen], [f"pooled{stride}"], **sides))
        nodes.append(helper.make_node("Reshape", [f"pooled{stride}", "flat"], [f"flat{stride}"]))
    nodes += [
        helper.make_node("Concat", [f"flat{stride}" for stride in STRIDES], ["cells"], axis=2),
        helper.make_node("MatMul", ["mix", "cells"], ["mixed"]),
        helper.make_node("Add", ["mixed", "shift"], ["shifted"]),
        helper.make_node("Tanh", ["shifted"], ["bent"]),
        helper.make_node("MatMul", ["out", "bent"], ["raw"]),
        helper.make_node("Split", ["raw", "split"], ["boxes", "scores"], axis=1),
        helper.make_node("Tanh", ["boxes"], ["near"]),
        helper.make_node("Sub", ["cells", "grey"], ["off"]),  # grey is around a picture, where there is nothing
        helper.make_node("Abs", ["off"], ["apart"]),
        helper.make_node("ReduceMean", ["apart"], ["colour"], axes=[1], keepdims=1),
        helper.make_node("Mul", ["colour", "strength"], ["coloured"]),
        helper.make_node("Add", ["scores", "coloured"], ["likely"]),
        helper.make_node("Sub", ["likely", "least"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["sure"]),
        helper.make_node("Concat", ["near", "sure"], ["joined"], axis=1),
        helper.make_node("Mul", ["joined", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "base"], ["answer"]),
    ]
    shape: list[int | str] = [1, rows, count]
    if head == "objectness":
        nodes.append(helper.make_node("Transpose", ["answer"], ["output0"], perm=[0, 2, 1]))
        shape = [1, count, rows]
    else:
        nodes[-1].output[0] = "output0"
    number = helper.np_dtype_to_tensor_dtype(kind)
    taken: list[int | str] = ["batch", 3, "height", "width"] if dynamic else [1, 3, imgsz, imgsz]
    graph = helper.make_graph(
        nodes,
        "seeing",
        [helper.make_tensor_value_info("images", number, taken)],
        [helper.make_tensor_value_info("output0", number, ["batch", "rows", "columns"] if dynamic else shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if takes_bytes or name != "byte"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {"names": repr({number: f"class{number}" for number in range(classes)}), "stride": "32"}
    if head == "anchors":
        facts |= {"task": "detect", "imgsz": repr([imgsz, imgsz]), "description": "Ultralytics YOLO11n model"}
    helper.set_model_props(model, facts)
    onnx.save(model, path)
    return path


def _grid(imgsz: int) -> NDArray[np.float32]:
    """Centre and size of each cell, float32 (4, cells)."""
    parts = []
    for stride in STRIDES:
        rows, columns = np.mgrid[: imgsz // stride, : imgsz // stride] * stride + stride / 2
        size = np.full(rows.size, stride * 1.5)
        parts.append(np.stack((columns.ravel(), rows.ravel(), size, size)))
    return np.concatenate(parts, axis=1).astype(np.float32)


def pictures(count: int = 4, size: tuple[int, int] = (48, 64)) -> list[NDArray[np.uint8]]:
    """Pictures of coloured blocks, none of them grey."""
    dice = np.random.default_rng(7)
    found = []
    for _ in range(count):
        blocks = dice.integers(0, 256, (size[0] // 8, size[1] // 8, 3), np.uint8)
        found.append(blocks.repeat(8, axis=0).repeat(8, axis=1))
    return found
