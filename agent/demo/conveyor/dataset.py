"""Rendered data sets in YOLO's layout: images/, labels/ and a data.yaml."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import cv2

from agent.demo.conveyor.chance import between
from agent.demo.conveyor.products import PRODUCTS
from agent.demo.conveyor.scene import Conveyor, Part

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.demo.conveyor.paint import Box, Pixels
    from agent.messages.references import Task

FRAMES_A_SEED: Final = 8
_JPEG_QUALITY: Final = 92
_EMPTY_EVERY: Final = 20  # one seed in so many shows an empty belt
_SPAN_S: Final = 60.0


def frames(product: str, count: int, first_seed: int) -> Iterator[tuple[Pixels, list[Part]]]:
    """Yield `count` rendered frames with ground truth: a few moments of each seed, from `first_seed` on."""
    for number in range(count):
        seed, moment = first_seed + number // FRAMES_A_SEED, number % FRAMES_A_SEED
        if moment == 0:
            empty = (seed - first_seed) % _EMPTY_EVERY == _EMPTY_EVERY - 1
            conveyor = Conveyor(None if empty else product, seed)
        yield conveyor.render(between(0, _SPAN_S, seed, moment))


def stretched(picture: Pixels, side: int) -> Pixels:
    """Return a frame as a square."""
    return cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA).astype(picture.dtype)


def write(folder: Path, split: str, product: str, count: int, first_seed: int) -> None:
    """Write a product's frames below `folder`: images/SPLIT/*.jpg and labels/SPLIT/*.txt."""
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for number, (picture, parts) in enumerate(frames(product, count, first_seed)):
        stem = f"{product}-{number:05d}"
        cv2.imwrite(str(images / f"{stem}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        (labels / f"{stem}.txt").write_text("".join(_line(part, picture, PRODUCTS[product].task) for part in parts))


def describe(file: Path, folders: list[Path], names: tuple[str, ...]) -> Path:
    """Write a data.yaml (as JSON, a subset of YAML) for the `train` and `val` splits; return its path."""
    splits = {split: [str(folder / "images" / split) for folder in folders] for split in ("train", "val")}
    file.write_text(json.dumps({**splits, "names": dict(enumerate(names))}))
    return file


def centred(box: Box, picture: Pixels) -> Box:
    """Return a box as centre and size, in shares of the picture."""
    (x1, y1, x2, y2), (high, wide) = box, picture.shape[:2]
    return (x1 + x2) / 2 / wide, (y1 + y2) / 2 / high, (x2 - x1) / wide, (y2 - y1) / high


def _line(part: Part, picture: Pixels, task: Task) -> str:
    """Return a part's label: its outline where the task asks for one, else centre and size; in shares."""
    high, wide = picture.shape[:2]
    numbers = (
        centred(part.box, picture)
        if task == "detect"
        else [number for x, y in part.outline for number in (x / wide, y / high)]
    )
    return f"{part.class_id} {' '.join(f'{number:.6f}' for number in numbers)}\n"
