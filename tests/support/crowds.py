"""A network of YOLOv5n's size that answers a bright picture with a crowd of candidates, and a dark one with none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Untyped = Any
Floats = NDArray[np.float64]

SIDE: Final = 640
CLASSES: Final = 80
CELLS: Final = (80, 40, 20)
COUNT: Final = 3 * sum(side**2 for side in CELLS)
"""25,200: three candidates a cell."""


def uniform(chance: np.random.Generator) -> tuple[Floats, Floats]:
    return chance.uniform(0, SIDE, (COUNT, 2)), chance.uniform(10, 60, (COUNT, 2))


def large(chance: np.random.Generator) -> tuple[Floats, Floats]:
    return chance.uniform(0, SIDE, (COUNT, 2)), chance.uniform(150, 400, (COUNT, 2))


def identical(_: np.random.Generator) -> tuple[Floats, Floats]:
    return np.full((COUNT, 2), SIDE / 2), np.full((COUNT, 2), 80.0)


def grid(_: np.random.Generator) -> tuple[Floats, Floats]:
    """Each cell's three boxes, as wide as the cell and more."""
    centres, sizes = [], []
    for cells in CELLS:
        stride = SIDE / cells
        middles = np.stack(np.meshgrid(np.arange(cells), np.arange(cells)), axis=-1).reshape(-1, 2) * stride
        for factor in (1.25, 2.5, 5.0):
            centres.append(middles + stride / 2)
            sizes.append(np.full(middles.shape, factor * stride))
    return np.concatenate(centres), np.concatenate(sizes)


def around_objects(count: int, spread: float) -> Callable[[np.random.Generator], tuple[Floats, Floats]]:
    """All candidates lie about `count` objects that do not touch each other, as many at each."""

    def crowd(chance: np.random.Generator) -> tuple[Floats, Floats]:
        columns = int(np.ceil(np.sqrt(count)))
        pitch = SIDE / columns
        middles = np.stack(np.meshgrid(np.arange(columns), np.arange(columns)), axis=-1).reshape(-1, 2)[:count]
        centres = (middles[np.arange(COUNT) % count] + 0.5) * pitch
        sizes = 0.8 * pitch * chance.uniform(1 - spread, 1 + spread, (COUNT, 2))
        return centres + chance.normal(0, spread * pitch / 4, (COUNT, 2)), sizes

    return crowd


SCENES: Final[dict[str, tuple[Callable[[np.random.Generator], tuple[Floats, Floats]], int]]] = {
    "uniform, 80 classes": (uniform, CLASSES),
    "uniform, one class": (uniform, 1),
    "60 objects, one class": (around_objects(60, 0.1), 1),
    "299 objects, one class": (around_objects(299, 0.05), 1),
    "299 objects, 80 classes": (around_objects(299, 0.05), CLASSES),
    "large boxes, one class": (large, 1),
    "identical boxes": (identical, 1),
    "grid, one class": (grid, 1),
}
"""Rules that draw the centres and sizes of the candidates, and their number of classes."""


def answer_of(scene: str) -> NDArray[np.float32]:
    """Return YOLOv5's (1, 25200, 85) of a scene in which each candidate passes a threshold of 0.25."""
    draw, classes = SCENES[scene]
    chance = np.random.default_rng(5)
    answer = chance.uniform(0, 0.3, (1, COUNT, 5 + CLASSES)).astype(np.float32)
    centres, sizes = draw(chance)
    answer[0, :, :2], answer[0, :, 2:4] = centres, sizes
    answer[0, :, 4] = chance.uniform(0.5, 1, COUNT)
    answer[0, np.arange(COUNT), 5 + chance.integers(0, classes, COUNT)] = chance.uniform(0.9, 1, COUNT)
    return answer


def write_network(torch: Untyped, path: Path) -> Path:
    """Write YOLOv5n with random weights, as its own exporter does; it finds nothing before it is told a scene.

    A millionth of what it computes by itself is in its answer, so that no runtime leaves it out.
    """
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely

    class Crowded(torch.nn.Module):  # type: ignore[misc] # torch has no types here
        def __init__(self) -> None:
            super().__init__()
            network = YOLO("yolov5n.yaml").model.fuse()
            self.layers = network.model[:-1]
            self.from_layers = network.model[-1].f
            widths = [branch[0].conv.in_channels for branch in network.model[-1].cv2]
            self.heads = torch.nn.ModuleList(torch.nn.Conv2d(width, 3 * (5 + CLASSES), 1) for width in widths)
            self.crowd = torch.nn.Parameter(torch.zeros(1, COUNT, 5 + CLASSES))

        def forward(self, pixels: Untyped) -> Untyped:
            kept: list[Untyped] = []
            last = pixels
            for layer in self.layers:
                several = [last if one == -1 else kept[one] for one in layer.f] if isinstance(layer.f, list) else None
                last = layer(several or (last if layer.f == -1 else kept[layer.f]))
                kept.append(last)
            rows = [
                head(kept[at]).view(1, 3, 5 + CLASSES, -1).permute(0, 1, 3, 2).reshape(1, -1, 5 + CLASSES)
                for head, at in zip(self.heads, self.from_layers, strict=True)
            ]
            is_bright = (pixels.mean() > 0.5).to(pixels.dtype)
            return torch.cat(rows, dim=1).sigmoid() * 1e-6 + self.crowd * is_bright

    torch.manual_seed(5)
    pictures = torch.zeros(1, 3, SIDE, SIDE)
    names = {"input_names": ["images"], "output_names": ["output0"]}
    torch.onnx.export(Crowded().eval(), pictures, path, opset_version=17, dynamo=False, **names)
    model = onnx.load(path)
    helper.set_model_props(model, {"names": str({index: f"class{index}" for index in range(CLASSES)}), "stride": "32"})
    onnx.save(model, path)
    return path


def tell(network: Path, scene: str, path: Path) -> Path:
    """Write a copy of the network that answers bright pictures with the scene."""
    model = onnx.load(network)
    crowd = next(tensor for tensor in model.graph.initializer if tensor.name == "crowd")
    crowd.CopyFrom(numpy_helper.from_array(answer_of(scene), "crowd"))
    onnx.save(model, path)
    return path
