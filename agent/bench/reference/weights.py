"""Conversion of an ONNX file, exported by ultralytics, back to an ultralytics checkpoint."""

from pathlib import Path
from typing import Final

import onnx
import torch
from onnx import numpy_helper
from ultralytics.nn.tasks import DetectionModel, OBBModel, SegmentationModel

from agent.bench.reference.training import Untyped, batches_of, train

_NETWORKS: Final = {"": DetectionModel, "-seg": SegmentationModel, "-obb": OBBModel}
"""Classes of networks by ultralytics' suffix of a task."""
_STEPS: Final = 3
_BATCH: Final = 4
_RATE: Final = 1e-5


def restore(exported: Path, checkpoint: Path, product: str, size: str, names: tuple[str, ...]) -> None:
    """Write `checkpoint`, a float32 yolo11 of `size`: the fused weights of `exported`, trained on for some steps.

    The steps make float32 weights of the float16 ones that are shipped, which no preparation rounds. Raises
    RuntimeError where `exported` is no such model.
    """
    inner = network(exported, size, names)
    side = onnx.load(exported).graph.input[0].type.tensor_type.shape.dim[3].dim_value
    train(torch, inner, batches_of(torch, product, side, _BATCH), _STEPS, _RATE)
    torch.save({"model": inner, "train_args": {}}, checkpoint)  # `YOLO.save` would round to float16


def network(exported: Path, stem: str, names: tuple[str, ...]) -> Untyped:
    """Return the yolo11 of a size, or of a size and task such as `n-seg`, with the fused weights of `exported`.

    Raises RuntimeError where `exported` is no such model.
    """
    found = {one.name: one for one in onnx.load(exported).graph.initializer}
    _, dash, task = stem.partition("-")
    inner = _NETWORKS[dash + task](f"yolo11{stem}.yaml", nc=len(names), verbose=False).fuse(verbose=False)
    wanted = inner.state_dict()
    inner.load_state_dict(
        {name: torch.tensor(numpy_helper.to_array(found[name])).float() for name in wanted if name in found}
    )
    inner.names = dict(enumerate(names))
    return inner
