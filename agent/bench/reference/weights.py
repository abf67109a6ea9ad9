"""Conversion of an ONNX file, exported by ultralytics, back to an ultralytics checkpoint."""

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel


def restore(exported: Path, checkpoint: Path, size: str, names: tuple[str, ...]) -> None:
    """Write `checkpoint`, a float32 yolo11 of `size` with the fused weights of `exported`.

    Raises RuntimeError where `exported` is no such model.
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
