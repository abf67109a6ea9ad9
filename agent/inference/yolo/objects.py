"""Objects that a model found in one picture."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Objects:
    """The objects of one picture, by score, greatest first.

    `boxes`: float32 (n, 4), x1, y1, x2, y2 in pixels of the picture, clipped to it. `scores`: float32 (n,).
    `classes`: int32 (n,), indices into the model's names. The arrays are the caller's own.
    """

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.scores)
