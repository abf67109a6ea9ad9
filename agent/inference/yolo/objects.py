"""Objects that a model found in one picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Objects:
    """The objects of one picture, sorted by descending score; the arrays belong to the caller."""

    boxes: NDArray[np.float32]
    """Boxes (n, 4): x1, y1, x2, y2 in pixels of the picture, clipped to it."""
    scores: NDArray[np.float32]
    """Scores (n,)."""
    classes: NDArray[np.int32]
    """Class indices (n,) into the model's names."""

    def resized(self, size: tuple[int, int], to: tuple[int, int]) -> "Objects":
        """Return the objects in pixels of a picture of size `to` that was scaled to `size`, both (height, width)."""
        if size == to:
            return self
        gain = np.array((to[1] / size[1], to[0] / size[0]) * 2, np.float32)
        return Objects(self.boxes * gain, self.scores, self.classes)

    def __len__(self) -> int:
        return len(self.scores)
