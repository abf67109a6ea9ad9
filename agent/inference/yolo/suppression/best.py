"""The best candidates of a dense head, in the form that an engine outputs: (1, 6, count), by falling score."""

import numpy as np
from numpy.typing import NDArray

from agent.inference.yolo.layouts import Layout

REDUCED = frozenset({Layout.ANCHORS, Layout.OBJECTNESS})
"""Layouts whose candidates a GPU can choose; others output few rows anyway, or need the number of each cell."""
ROWS = 6
"""Rows of the output: centre and size (4), score, class."""
_BOX = 4


def best(raw: NDArray[np.floating], layout: Layout, count: int) -> NDArray[np.float32]:
    """Return the `count` best candidates of a dense head's raw output, float (1, ...), as float32 (1, 6, count)."""
    rows = np.asarray(raw[0] if layout is Layout.ANCHORS else raw[0].T, np.float32)
    if layout is Layout.ANCHORS:
        scores = rows[_BOX:]
        most = scores.max(axis=0)
    else:
        scores = rows[_BOX + 1 :]
        most = scores.max(axis=0) * rows[_BOX]
    order = np.argsort(-most, kind="stable")[:count]
    classes = scores.argmax(axis=0)[order].astype(np.float32)
    return np.concatenate((rows[:_BOX, order], most[np.newaxis, order], classes[np.newaxis]))[np.newaxis]
