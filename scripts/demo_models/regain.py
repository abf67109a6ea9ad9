"""From an exported file back to a network that can be trained on, for another task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import onnx
import torch
from ultralytics import YOLO
from ultralytics.nn.tasks import yaml_model_load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_NETWORKS = {"detect": "yolo11n.yaml", "segment": "yolo11n-seg.yaml", "obb": "yolo11n-obb.yaml"}


def network(source: Path, task: str, names: Sequence[str], pictures: Sequence[Path], imgsz: int) -> YOLO:
    """Return an untrained network of `task` whose layers begin as those of an exported YOLO11n where they are alike.

    An export folds each normalisation into its convolution. Both are given back by what the convolutions answer to
    `pictures`, so that the network answers as before, and normalises as one that was trained.
    """
    found = YOLO(_NETWORKS[task], task=task)
    said = found.model.args
    found.model = type(found.model)({**yaml_model_load(_NETWORKS[task]), "nc": len(names)}, verbose=False)
    found.model.args, found.model.task = said, task
    found.model.names = dict(enumerate(names))
    weights = {one.name: _tensor(one) for one in onnx.load(source).graph.initializer}
    _load(found.model, weights)
    _normalise(found.model, weights, _batch(pictures, imgsz))
    return found


def _load(model: Any, weights: dict[str, torch.Tensor]) -> None:  # noqa: ANN401 - ultralytics' untyped networks
    state = model.state_dict()
    alike = {name: value for name, value in weights.items() if name in state and state[name].shape == value.shape}
    model.load_state_dict(alike, strict=False)


def _normalise(model: Any, weights: dict[str, torch.Tensor], batch: torch.Tensor) -> None:  # noqa: ANN401 - as above
    """Set each normalisation to what its convolution answers, layer by layer from the picture on."""
    hooks = []
    for name, layer in model.named_modules():
        if not (hasattr(layer, "bn") and hasattr(layer, "conv")):
            continue
        bias = weights.get(f"{name}.conv.bias")
        if bias is None or bias.shape != layer.bn.bias.shape:
            continue

        def measure(conv: Any, _: Any, answer: torch.Tensor, bn: Any = layer.bn, shift: torch.Tensor = bias) -> None:  # noqa: ANN401 - as above
            del conv
            bn.running_mean.copy_(answer.mean((0, 2, 3)))
            bn.running_var.copy_(answer.var((0, 2, 3)))
            bn.weight.copy_((bn.running_var + bn.eps).sqrt())
            bn.bias.copy_(shift + bn.running_mean)

        hooks.append(layer.conv.register_forward_hook(measure))
    model.eval()
    with torch.no_grad():
        model(batch)
    for hook in hooks:
        hook.remove()


def _batch(pictures: Sequence[Path], imgsz: int) -> torch.Tensor:
    planes = []
    for picture in pictures:
        read = cv2.imread(str(picture))
        assert read is not None, "rendered by this very script"
        planes.append(cv2.resize(read, (imgsz, imgsz))[..., ::-1].transpose(2, 0, 1))
    return torch.from_numpy(np.ascontiguousarray(np.stack(planes))).float() / 255


def _tensor(one: onnx.TensorProto) -> torch.Tensor:
    return torch.from_numpy(onnx.numpy_helper.to_array(one).astype(np.float32))
