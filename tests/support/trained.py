"""Networks of ultralytics, as they are made and after a short training on the demo's rendered conveyor."""

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.demo.conveyor import dataset

Untyped = Any
Picture = NDArray[np.uint8]

PRODUCT: Final = "bottle-500"
_FRAMES: Final = 32
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
    batches: Iterator[dict[str, Untyped]] | None = None,
) -> tuple[float, float]:
    """Train all layers for so many steps on `batches`, else on the conveyor; return the loss before and after."""
    from ultralytics.cfg import get_cfg  # noqa: PLC0415 - only after torch was imported safely

    network = fresh.model
    said, network.args = network.args, get_cfg()
    network.train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.3  # because the usual 0.03 takes more steps than there are
    for weight in network.parameters():
        weight.requires_grad_(True)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_RATE)
    losses = []
    for frames in islice(batches or _batches(torch, side, batch), steps):
        loss = network.loss(frames)[0].sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        losses.append(float(loss) / batch)
    network.args, network.criterion = said, None
    network.eval()
    for norm in norms:
        norm.momentum = 0.03
    for weight in network.parameters():
        weight.requires_grad_(False)
    return losses[0], losses[-1]


def conveyor_pictures(count: int) -> list[Picture]:
    """Return rendered frames that no training saw."""
    return [picture for picture, _ in dataset.frames(PRODUCT, count, 900_000)]


def export(fresh: Untyped, folder: Path, side: int) -> Path:
    """Export the network to ONNX; returns the file."""
    fresh.ckpt_path = str(folder / "network.pt")
    fresh.model.pt_path = fresh.ckpt_path
    return Path(fresh.export(format="onnx", imgsz=side, simplify=False, device="cpu"))


def _batches(torch: Untyped, side: int, size: int) -> Iterator[dict[str, Untyped]]:
    """Yield the frames over and over, stretched to squares."""
    known = list(dataset.frames(PRODUCT, _FRAMES, 1_000))
    frames = cycle(known)
    while True:
        chosen = list(islice(frames, size))
        pixels = [cv2.resize(picture, (side, side))[..., ::-1].transpose(2, 0, 1) for picture, _ in chosen]
        labels = [
            (number, part.class_id, *_shares(part.box, picture.shape))
            for number, (picture, parts) in enumerate(chosen)
            for part in parts
        ]
        rows = torch.tensor(labels, dtype=torch.float32).reshape(-1, 6)
        yield {
            "img": torch.from_numpy(np.ascontiguousarray(np.stack(pixels))).float() / 255,
            "batch_idx": rows[:, 0],
            "cls": rows[:, 1:2],
            "bboxes": rows[:, 2:],
        }


def _shares(box: tuple[float, float, float, float], shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Turn corners into centre and size, in shares of the picture."""
    (left, top, right, bottom), (height, width) = box, shape[:2]
    return (left + right) / 2 / width, (top + bottom) / 2 / height, (right - left) / width, (bottom - top) / height
