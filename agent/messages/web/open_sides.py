"""Bound of a request on the sides that a model's inputs leave open."""

import math
from collections.abc import Iterable, Sequence
from typing import Final

OPEN: Final = -1


def beyond_bound(inputs: Iterable[tuple[str, Sequence[int], Sequence[int]]], most: int) -> str:
    """Return what is wrong with the inputs of a request: name, shape, and the model's shape; empty where they fit.

    `most` bounds the product of the open sides; 0 for no bound. Sides at the same place of several inputs count once,
    by the largest of them.
    """
    largest: dict[int, int] = {}
    names: dict[int, str] = {}
    for name, shape, expected in inputs:
        for at, (side, wanted) in enumerate(zip(shape, expected, strict=False)):
            if wanted == OPEN and side > largest.get(at, 0):
                largest[at], names[at] = side, name
    count = math.prod(largest.values())
    if not most or count <= most:
        return ""
    widest = names[max(largest, key=lambda at: largest[at])]
    return f"inputs: {widest[:64]!r} is too large: the open sides have {count} elements together, of {most} at most"
