"""Steadiness of a model: how far its answer to a frame changes when the picture is moved by a few pixels.

A model that knows what it sees finds the same objects in the same places; one that was trained too little, or is
spoilt, does so less. So the answers of one model say something about it without anybody's ground truth.
"""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.inference.validation.golden import iou
from agent.messages.payloads import DetectedObject

MOVES: Final = ((1 / 40, 1 / 40), (-1 / 64, 3 / 160))
"""Moves of the frames in turn, as shares of width and height; of 640 x 480, (16, 12) and (-10, 9) pixels."""
_MARGIN: Final = 1 / 20
"""Share of the picture at its edges whose objects do not count, because a move cuts them off."""
_SAME_AT_LEAST: Final = 0.5
_MOST: Final = 64
"""Objects of a picture that count, because each is compared with all others."""
_BORDERLINE: Final = 0.05
"""Distance of a score from the threshold below which an object may be found in one picture alone."""

Move = tuple[float, float]
"""To the right and down, in shares of the picture."""


def move_of(number: int) -> Move:
    """Return the move of the frame with a number."""
    return MOVES[number % len(MOVES)]


def moved(pixels: NDArray[np.uint8], move: Move) -> NDArray[np.uint8]:
    """Return a picture (height, width, 3) moved by whole pixels; its edges are repeated."""
    high, wide = pixels.shape[:2]
    down, right = round(move[1] * high), round(move[0] * wide)
    edges = (max(down, 0), max(-down, 0), max(right, 0), max(-right, 0))
    left = pixels[edges[1] : high - edges[0], edges[3] : wide - edges[2]]
    return np.asarray(cv2.copyMakeBorder(left, *edges, cv2.BORDER_REPLICATE), np.uint8)


def unsteadiness(
    before: list[DetectedObject],
    after: list[DetectedObject],
    move: Move,
    size: tuple[int, int],
    confidence: float,
) -> float | None:
    """Return how far a model's answers to a picture and to the moved one differ, 0 to 1; None without objects.

    It is the mean of what the overlap of each object lacks, 1.0 for an object of one answer alone; of a crowd, the
    objects with the highest scores count. `size` is height and width of the picture in whose pixels the boxes are.
    """
    high, wide = size
    right, down = round(move[0] * wide), round(move[1] * high)
    before, after = (sorted(objects, key=lambda item: -item.score) for objects in (before, after))
    least = max(confidence + _BORDERLINE, before[_MOST].score if len(before) > _MOST else 0.0)
    left = [(one, _shifted(one.box, -right, -down)) for one in after[: 2 * _MOST]]
    lacks: list[float] = []
    for one in before[:_MOST]:
        is_inside = _is_inside(one.box, high, wide)
        same = [(iou(one.box, box), place) for place, (other, box) in enumerate(left) if other.label == one.label]
        overlap, place = max(same, default=(0.0, -1))
        if overlap >= _SAME_AT_LEAST:
            left.pop(place)
            lacks += [1 - overlap] if is_inside else []
        elif is_inside and one.score > least:
            lacks.append(1.0)
    lacks += [1.0 for one, box in left if one.score > least and _is_inside(box, high, wide)]
    return sum(lacks) / len(lacks) if lacks else None


def _shifted(box: tuple[float, float, float, float], right: float, down: float) -> tuple[float, float, float, float]:
    return box[0] + right, box[1] + down, box[2] + right, box[3] + down


def _is_inside(box: tuple[float, float, float, float], high: int, wide: int) -> bool:
    across, along = wide * _MARGIN, high * _MARGIN
    return box[0] > across and box[1] > along and box[2] < wide - across and box[3] < high - along
