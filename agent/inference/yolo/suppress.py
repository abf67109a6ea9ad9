"""Non-maximum suppression, class by class, as ultralytics does it."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_CANDIDATES: Final = 30_000
MAX_OBJECTS: Final = 300


def suppress(
    boxes: NDArray[np.float32], scores: NDArray[np.float32], classes: NDArray[np.int32], iou: float
) -> NDArray[np.intp]:
    """Return the indices that stay, by score, greatest first, at most MAX_OBJECTS.

    Of two boxes (x1, y1, x2, y2) of one class whose overlap is greater than `iou`, the one with the lower score goes.
    """
    order = np.argsort(-scores, kind="stable")[:MAX_CANDIDATES]
    if len(order) < 2:  # noqa: PLR2004 - one box has no rival
        return order
    corners = boxes[order].astype(np.float64)
    corners -= corners.min(axis=0)[[0, 1, 0, 1]]  # OpenCV keeps classes apart by offsets that suppose no negative edge
    corners[:, 2:] -= corners[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(corners, scores[order], classes[order], -1.0, iou)  # type: ignore[arg-type]
    return order[np.asarray(kept, np.intp)[:MAX_OBJECTS]]
