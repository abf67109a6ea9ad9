"""Synthetic pictures for models without golden pictures: a blank one, and some with many shapes."""

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.letterbox import PAD

_SIZE: Final = (480, 640)
_COUNT: Final = 4
_SHAPES: Final = 12


def blank(imgsz: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a grey picture, uint8 (height, width, 3), of height and width `imgsz`."""
    return np.full((*imgsz, 3), PAD, np.uint8)


def busy() -> Iterator[NDArray[np.uint8]]:
    """Yield pictures of shapes on grey, uint8 (480, 640, 3) BGR; every call yields the same ones."""
    chance = np.random.default_rng(0)
    for _ in range(_COUNT):
        picture = blank(_SIZE)
        for _ in range(_SHAPES):
            centre = tuple(int(chance.integers(0, side)) for side in reversed(_SIZE))
            colour = [int(value) for value in chance.integers(0, 256, 3)]
            cv2.ellipse(picture, centre, chance.integers(10, 120, 2).tolist(), 0, 0, 360, colour, -1)
        yield cv2.GaussianBlur(picture, (5, 5), 0).astype(np.uint8)
