"""Compares the raw outputs of an artifact and its source, because a compiler may change a model's answers."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.backends.detector import Detector
from agent.inference.yolo.head import Raw
from agent.inference.yolo.letterbox import PAD
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_SCORE: Final = 4
_WITHIN: Final = 0.05  # tolerance as a share of the largest number; float16 weights and bfloat16 sums differ far less
_SHARE: Final = 0.99
_NEVER_BEYOND: Final = 0.25


def require_alike(
    version: ModelVersion,
    source: Detector,
    prepared: Detector,
    reduced: Callable[[NDArray[np.floating]], NDArray[np.float32]] | None = None,
) -> None:
    """Compare the raw outputs of both models on a blank picture, and close both.

    `reduced` converts the source's first output to the form of the artifact's, (1, 6, candidates); None: both have the
    same form. Raises ModelError("proof_failed") where they differ. The picture is blank, because an untrained network
    amplifies rounding on noise into different outputs.
    """
    picture = np.full((*source.imgsz, 3), PAD, np.uint8)
    try:
        want, got = _raw(source, picture), _raw(prepared, picture)
        if reduced is None:
            wanted, given = source.head.parts(want), source.head.parts(got)
        else:
            wanted, given = (_scores(reduced(want[0])),), (_scores(got[0]),)
        shares = [_share_alike(*pair) for pair in zip(wanted, given, strict=True)]
    finally:
        source.close()
        prepared.close()
    if min(shares) < _SHARE:
        what = f"what was prepared answers as the file does in {min(shares):.0%} of its numbers only"
        raise ModelError("proof_failed", f"{version.reference}: {what}")


def _raw(model: Detector, picture: NDArray[np.uint8]) -> Raw:
    return tuple(np.array(one, np.float32) for one in model.prepare(picture).request.run())


def _scores(candidates: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the scores of (1, 6, candidates), sorted as those of an end-to-end head's rows are."""
    scores: NDArray[np.floating] = np.sort(candidates[:, _SCORE].ravel())
    return scores


def _share_alike(want: NDArray[np.floating], got: NDArray[np.floating]) -> float:
    if want.shape != got.shape:
        return 0.0
    if not want.size:
        return 1.0
    largest = np.nanmax(np.abs(want), initial=1e-6)
    with np.errstate(invalid="ignore"):
        apart = np.abs(want - got) / largest
    apart[np.isnan(want) & np.isnan(got)] = 0
    if not (apart <= _NEVER_BEYOND).all():
        return 0.0
    return float(np.mean(apart <= _WITHIN))
