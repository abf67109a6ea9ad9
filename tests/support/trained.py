"""Networks of ultralytics, as they are made and after a short training on the demo's rendered conveyor."""

from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.bench.reference import training
from agent.demo.conveyor import dataset

Untyped = Any
Picture = NDArray[np.uint8]

PRODUCT: Final = "bottle-500"
_RATE: Final = 1e-3
_SEED: Final = 3


def untrained(torch: Untyped, name: str, classes: int, folder: Path) -> Untyped:
    """Return the network `name` (yolo11n, ...) with ultralytics' random weights, of a fixed seed."""
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely
    from ultralytics.nn.tasks import yaml_model_load  # noqa: PLC0415 - as above
    from ultralytics.utils import YAML  # noqa: PLC0415 - as above

    torch.manual_seed(_SEED)
    recipe = folder / f"{name}.yaml"
    YAML.save(recipe, {**yaml_model_load(f"{name}.yaml"), "nc": classes})
    return YOLO(str(recipe))


def train(  # noqa: PLR0913, PLR0917 - a training, spelt out
    torch: Untyped,
    fresh: Untyped,
    side: int,
    steps: int,
    batch: int,
    batches: training.Batches | None = None,
) -> tuple[float, float]:
    """Train all layers for so many steps on `batches`, else on the conveyor; return the loss before and after."""
    frames = batches or training.batches_of(torch, PRODUCT, side, batch)
    return training.train(torch, fresh.model, frames, steps, _RATE)


def conveyor_pictures(count: int) -> list[Picture]:
    """Return rendered frames that no training saw."""
    return [picture for picture, _ in dataset.frames(PRODUCT, count, 900_000)]


def export(fresh: Untyped, folder: Path, side: int) -> Path:
    """Export the network to ONNX; returns the file."""
    fresh.ckpt_path = str(folder / "network.pt")
    fresh.model.pt_path = fresh.ckpt_path
    return Path(fresh.export(format="onnx", imgsz=side, simplify=False, device="cpu"))
