"""Models of each task that answer the same whatever they see, with one object, or one word, named as the model."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

SIDE: Final = 64
TASKS: Final = ("detect", "segment", "pose", "obb", "classify")
BOX: Final = (8.0, 16.0, 40.0, 48.0)
POINTS: Final = ("tip", "grip")
ADDS: Final = {"detect": "box", "segment": "polygons", "pose": "keypoints", "obb": "corners"}
"""Fields of each task's objects, as in a message."""
_CELLS: Final = 84
_MASKS: Final = 2

Array = NDArray[np.float32]


def write_task_model(path: Path, task: str, names: Sequence[str], angle: float = math.pi / 6) -> Path:
    """Write an ONNX model of a task in the layout of v8 for pictures of SIDE; returns `path`."""
    facts = {"names": dict(enumerate(names)), "task": task, "imgsz": [SIDE, SIDE], "stride": 32, "end2end": False}
    if task == "pose":
        facts |= {"kpt_shape": [len(POINTS), 3], "kpt_names": dict.fromkeys(range(len(names)), POINTS)}
    facts["description"] = "Ultralytics YOLO11n model"
    return write_outputs(path, outputs(task, len(names), angle), {key: str(value) for key, value in facts.items()})


def outputs(task: str, classes: int, angle: float = math.pi / 6) -> list[Array]:
    """Return what a model of a task answers: one object of class 0 in BOX, or class 0."""
    if task == "classify":
        words = np.full((1, classes), 0.1 / max(1, classes - 1), np.float32)
        words[0, 0] = 0.9 if classes > 1 else 1.0
        return [words]
    x1, y1, x2, y2 = BOX
    extras: dict[str, list[float]] = {
        "detect": [],
        "segment": [1.0] + [0.0] * (_MASKS - 1),
        "pose": [x1, y1, 0.9, x2, y2, 0.8],
        "obb": [angle],
    }
    found = np.zeros((1, 4 + classes + len(extras[task]), _CELLS), np.float32)
    found[0, :4, 7] = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    found[0, 4, 7] = 0.9
    found[0, 4 + classes :, 7] = extras[task]
    masks = np.ones((1, _MASKS, SIDE // 4, SIDE // 4), np.float32)
    return [found, masks] if task == "segment" else [found]


def write_outputs(path: Path, answers: Sequence[Array], said: dict[str, str]) -> Path:
    """Write an ONNX file that answers these arrays, whatever the picture; returns `path`."""
    nodes = [  # the answers must hang on the picture, or runtimes drop the input
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        *(helper.make_node("Add", [f"answer{at}", "nothing"], [f"output{at}"]) for at in range(len(answers))),
    ]
    constants = {"zero": np.float32(0).reshape(()), **{f"answer{at}": answer for at, answer in enumerate(answers)}}
    graph = helper.make_graph(
        nodes,
        "tasks",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(f"output{at}", TensorProto.FLOAT, list(answer.shape))
            for at, answer in enumerate(answers)
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, said)
    onnx.save(model, path)
    return path
