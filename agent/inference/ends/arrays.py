"""Packs split outputs to one array, as `packs` says; for runtimes that return arrays."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.inference.ends.packs import FLAT_COLUMNS, Pack

_Array = NDArray[np.float32]


def packed(pack: Pack, answers: Sequence[NDArray[np.generic]], classes: int) -> _Array:
    """Return one float32 array of a split output's arrays, which come in the order of `packs.roles`."""
    arrays = [np.asarray(answer, np.float32) for answer in answers]
    if pack is Pack.SIZED:
        labels, boxes, scores = arrays
        return np.concatenate((boxes, scores[..., None], labels[..., None]), axis=2)
    if pack is Pack.COUNTED:
        count, boxes, scores, labels = arrays
        rows = np.concatenate((boxes, scores[..., None], labels[..., None]), axis=2)
        rows[:, int(count.ravel()[0]) :] = 0  # what is behind the count is padding, of any number
        return rows
    if pack in FLAT_COLUMNS:
        return arrays[0][np.newaxis, :, FLAT_COLUMNS[pack]]
    boxes, numbers = arrays
    if pack is Pack.CORNERS:
        first, last = boxes[..., :2], boxes[..., 2:]
        columns = [part.transpose(0, 2, 1) for part in ((first + last) / 2, last - first, numbers)]
        whole = np.empty((1, sum(part.shape[1] for part in columns), first.shape[1]), np.float32)
        return np.concatenate(columns, axis=1, out=whole)  # into whole rows, which all that follows reads faster
    if pack is Pack.SOFTMAX:
        raised = np.exp(numbers - numbers.max(axis=2, keepdims=True))
        return np.concatenate((boxes, (raised / raised.sum(axis=2, keepdims=True))[..., :classes]), axis=2)
    with np.errstate(over="ignore"):  # a score of 0 is right where the number is far below it
        return np.concatenate((boxes, 1 / (1 + np.exp(-numbers))), axis=2)
