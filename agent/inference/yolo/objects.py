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

    def __len__(self) -> int:
        return len(self.scores)
