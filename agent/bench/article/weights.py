"""A checkpoint of ultralytics' own form from an ONNX file that was exported of one: the weights are all in there."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel


def restore(exported: Path, checkpoint: Path, size: str, names: tuple[str, ...]) -> None:
    """Write `checkpoint`, a yolo11 of `size` in float32 with the weights of `exported`, fused as they are there.

    Raises RuntimeError where they are not those of such a model.
    """
    found = {one.name: one for one in onnx.load(exported).graph.initializer}
    inner = DetectionModel(f"yolo11{size}.yaml", nc=len(names), verbose=False).fuse(verbose=False)
    wanted = inner.state_dict()
    inner.load_state_dict(
        {name: torch.tensor(numpy_helper.to_array(found[name])).float() for name in wanted if name in found}
    )
    inner.names = dict(enumerate(names))
    model = YOLO(f"yolo11{size}.yaml", task="detect")
    model.model = inner
    model.save(checkpoint)
