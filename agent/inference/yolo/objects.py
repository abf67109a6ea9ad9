"""Objects that a model found in one picture."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rings = tuple[NDArray[np.float32], ...]
"""Outer rings of one mask, each (points, 2): x, y."""


class Words(NamedTuple):
    """The best classes of a whole picture, sorted by descending score."""

    scores: NDArray[np.float32]
    """Scores (n,)."""
    classes: NDArray[np.int32]
    """Class indices (n,) into the model's names."""


@dataclass(frozen=True)
class Objects:
    """The objects of one picture, sorted by descending score; the arrays belong to the caller.

    Coordinates are in pixels of the picture. What the model's task does not have is None.
    """

    boxes: NDArray[np.float32]
    """Boxes (n, 4): x1, y1, x2, y2, clipped to the picture."""
    scores: NDArray[np.float32]
    """Scores (n,)."""
    classes: NDArray[np.int32]
    """Class indices (n,) into the model's names."""
    polygons: tuple[Rings, ...] | None = None
    """The mask of each object."""
    keypoints: NDArray[np.float32] | None = None
    """Keypoints (n, points, 3): x, y, score."""
    corners: NDArray[np.float32] | None = None
    """Corners (n, 4, 2) of turned boxes: x, y, clockwise; the first side gives the angle (`angles_of`)."""
    top: Words | None = None
    """The classes of the whole picture; there are no objects then."""
    further: tuple[NDArray[np.float32], ...] = ()
    """Of candidates: the network's numbers beside box and score, each (n, numbers) of one scale, not of the picture."""

    def resized(self, size: tuple[int, int], to: tuple[int, int]) -> "Objects":
        """Return the objects in pixels of a picture of size `to` that was scaled to `size`, both (height, width)."""
        if size == to:
            return self
        point = np.array((to[1] / size[1], to[0] / size[0]), np.float32)
        return Objects(
            self.boxes * np.tile(point, 2),
            self.scores,
            self.classes,
            None if self.polygons is None else tuple(tuple(ring * point for ring in rings) for rings in self.polygons),
            None if self.keypoints is None else self.keypoints * np.append(point, np.float32(1)),
            None if self.corners is None else self.corners * point,
            self.top,
            self.further,
        )

    def __len__(self) -> int:
        return len(self.scores)


def no_objects(top: Words | None = None) -> Objects:
    """Return an empty result, with the classes of the whole picture where there are some."""
    return Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), top=top)


def further_of(
    extras: NDArray[np.float32], boxes: NDArray[np.float32], points: tuple[int, int]
) -> tuple[NDArray[np.float32], ...]:
    """Split a network's numbers beside box and score, (n, numbers), into parts of one scale each.

    `points` is the number of keypoints, and of their numbers; they are given from the centres of `boxes`, corners.
    An angle, the only number of its kind, is given so that half a turn changes nothing.
    """
    count, size = points
    if not count:
        if extras.shape[1] == 1:
            return (np.concatenate((np.cos(2 * extras), np.sin(2 * extras)), axis=1),)
        return (extras,) if extras.shape[1] else ()
    told = extras.reshape(-1, count, size)
    places = told[..., :2] - (boxes[:, np.newaxis, :2] + boxes[:, np.newaxis, 2:]) * np.float32(0.5)
    parts = (places, told[..., 2:]) if size > places.shape[-1] else (places,)
    return tuple(part.reshape(len(told), -1) for part in parts)


def angles_of(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the angles (n,) of turned boxes (n, 4, 2), in radians from -pi/4 up to 3 pi/4, clockwise from the x axis.

    An angle is that of a box's first side, in the range of ultralytics; a box has the same corners half a turn on.
    """
    side = corners[:, 1] - corners[:, 0]
    turned: NDArray[np.float32] = np.arctan2(side[:, 1], side[:, 0])
    quarter = np.float32(np.pi / 4)
    angles: NDArray[np.float32] = ((turned + quarter) % np.float32(np.pi)) - quarter
    return angles
