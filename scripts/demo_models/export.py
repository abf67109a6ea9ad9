"""From trained weights to an ONNX file in float16, its metadata kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel
from ultralytics import YOLO

if TYPE_CHECKING:
    from pathlib import Path

# The rest of what ultralytics writes (date, folders, options) says where a file was made, not what it is.
_KEPT = {"names", "imgsz", "task", "stride", "batch", "channels", "end2end", "author", "license", "version"}


def to_onnx(weights: Path, target: Path, imgsz: int) -> Path:
    """Export to `target`: float16 weights, input and output; class names, size and task in the metadata."""
    target.parent.mkdir(parents=True, exist_ok=True)
    plain = YOLO(str(weights)).export(format="onnx", imgsz=imgsz, simplify=False, device="cpu")
    model = convert_float_to_float16(onnx.load(plain), keep_io_types=False)
    OnnxModel(model).topological_sort()  # the conversion leaves its casts at the end
    kept = [item for item in model.metadata_props if item.key in _KEPT]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target
