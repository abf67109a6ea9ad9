"""Frames of turned bars and ovals with a mark at one end, labelled for every task, and networks trained on them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from support import trained

Untyped = Any
Picture = NDArray[np.uint8]

NAMES: Final = ("bar", "oval")
POINTS: Final = ("mark", "end")
WORDS: Final = ("bars", "ovals", "both")
SUFFIXES: Final = {"detect": "", "segment": "-seg", "pose": "-pose", "obb": "-obb", "classify": "-cls"}
_MASK_STRIDE: Final = 4


@dataclass(frozen=True)
class Shape:
    """One part: its class, and its turned box in pixels (angle in radians, clockwise)."""

    kind: int
    centre: tuple[float, float]
    size: tuple[float, float]
    angle: float

    def corners(self) -> NDArray[np.float32]:
        degrees = math.degrees(self.angle)
        return np.asarray(cv2.boxPoints((self.centre, self.size, degrees)), np.float32)

    def ends(self) -> tuple[tuple[float, float], ...]:
        """Return the mark and the other end."""
        (x, y), reach = self.centre, self.size[0] * 0.35
        dx, dy = math.cos(self.angle) * reach, math.sin(self.angle) * reach
        return (x + dx, y + dy), (x - dx, y - dy)

    def draw(self, picture: NDArray[np.uint8], colour: tuple[int, ...]) -> None:
        if self.kind == 0:
            cv2.fillPoly(picture, [np.round(self.corners()).astype(np.int32)], colour, cv2.LINE_AA)
        else:
            box = (self.centre, self.size, math.degrees(self.angle))
            cv2.ellipse(picture, box, colour, -1, cv2.LINE_AA)


def frame(seed: int, size: tuple[int, int]) -> tuple[Picture, list[Shape]]:
    """Draw a frame of height and width `size`; the same for a seed, always."""
    dice = np.random.default_rng(seed)
    height, width = size
    picture = dice.normal(90, 8, (height, width, 3)).clip(0, 255).astype(np.uint8)
    count = int(dice.integers(1, 5))
    shapes = []
    for number in range(count):
        cell = width / count
        long_, short = dice.uniform(0.5, 0.85) * cell, dice.uniform(0.25, 0.4) * cell
        long_, short = min(long_, height * 0.7), min(short, height * 0.3)
        centre = (cell * (number + 0.5) + dice.uniform(-0.05, 0.05) * cell, height * dice.uniform(0.4, 0.6))
        shape = Shape(int(dice.integers(2)), centre, (long_, short), float(dice.uniform(-math.pi / 4, 3 * math.pi / 4)))
        colour = (60, 200, 230) if shape.kind == 0 else (230, 120, 60)
        shape.draw(picture, colour)
        mark = tuple(round(value) for value in shape.ends()[0])
        cv2.circle(picture, mark, max(2, round(short * 0.2)), (20, 20, 20), -1, cv2.LINE_AA)
        shapes.append(shape)
    return picture, shapes


def word_of(shapes: list[Shape]) -> int:
    kinds = {shape.kind for shape in shapes}
    return 2 if len(kinds) > 1 else kinds.pop()


def batches(torch: Untyped, task: str, side: int, size: int) -> Iterator[dict[str, Untyped]]:
    """Yield batches of `size` labelled frames without end, in the form that ultralytics' losses take."""
    seed = 1_000
    while True:
        frames = [frame(seed + number, (side, side)) for number in range(size)]
        seed += size
        pixels = np.stack([picture[..., ::-1].transpose(2, 0, 1) for picture, _ in frames])
        images = torch.from_numpy(np.ascontiguousarray(pixels)).float() / 255
        if task == "classify":
            yield {"img": images, "cls": torch.tensor([word_of(shapes) for _, shapes in frames])}
            continue
        parts = [(number, shape) for number, (_, shapes) in enumerate(frames) for shape in shapes]
        yield {
            "img": images,
            "batch_idx": torch.tensor([float(number) for number, _ in parts]),
            "cls": torch.tensor([[float(shape.kind)] for _, shape in parts]),
            "bboxes": torch.tensor(
                [_turned(shape, side) if task == "obb" else _upright(shape, side) for _, shape in parts]
            ),
            "masks": torch.from_numpy(np.stack([_masks(shapes, side) for _, shapes in frames])),
            "keypoints": torch.tensor([[[x / side, y / side, 2.0] for x, y in shape.ends()] for _, shape in parts]),
        }


def _upright(shape: Shape, side: int) -> tuple[float, ...]:
    corners = shape.corners() / side
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (*((low + high) / 2).tolist(), *(high - low).tolist())


def _turned(shape: Shape, side: int) -> tuple[float, ...]:
    return (shape.centre[0] / side, shape.centre[1] / side, shape.size[0] / side, shape.size[1] / side, shape.angle)


def _masks(shapes: list[Shape], side: int) -> NDArray[np.float32]:
    """Return the parts' masks in one picture, each with its number from 1, as `overlap_mask` of ultralytics."""
    whole = np.zeros((side, side), np.uint8)
    for number, shape in enumerate(shapes):
        shape.draw(whole, (number + 1,))
    cells = side // _MASK_STRIDE
    return cv2.resize(whole, (cells, cells), interpolation=cv2.INTER_NEAREST).astype(np.float32)


def untrained(torch: Untyped, network: str, task: str, folder: Path) -> Untyped:
    """Return a network with random weights for the shapes' classes, named as in `NAMES` or `WORDS`."""
    from ultralytics import YOLO  # noqa: PLC0415 - only after torch was imported safely
    from ultralytics.nn.tasks import yaml_model_load  # noqa: PLC0415 - as above
    from ultralytics.utils import YAML  # noqa: PLC0415 - as above

    torch.manual_seed(3)
    name = f"{network}{SUFFIXES[task]}"
    recipe = folder / f"{name}.yaml"
    names = WORDS if task == "classify" else NAMES
    points = {"kpt_shape": [len(POINTS), 3]} if task == "pose" else {}
    YAML.save(recipe, {**yaml_model_load(f"{name}.yaml"), "nc": len(names), **points})
    fresh = YOLO(str(recipe))
    fresh.model.names = dict(enumerate(names))
    if task == "pose":
        fresh.model.kpt_names = {0: list(POINTS), 1: list(POINTS)}
    return fresh


def train(torch: Untyped, fresh: Untyped, task: str, side: int, steps: int) -> tuple[float, float]:
    """Train on frames of the shapes; return the loss before and after."""
    return trained.train(torch, fresh, side, steps, 8, batches(torch, task, side, 8))


def export(fresh: Untyped, folder: Path, side: int) -> Path:
    """Export the network to ONNX; returns the file."""
    return trained.export(fresh, folder, side)
