"""Words for a terminal of what one frame shows, by the task of its model."""

from collections.abc import Sequence
from itertools import pairwise
from math import degrees
from typing import Final

import msgspec

from agent.messages.payloads import DetectedObject, DetectionsPayload

_SEEN_SCORE: Final = 0.5
"""Least score of a keypoint that counts as seen."""
_ANGLES: Final = 3
"""Most angles named for a label."""


def words_of(frame: DetectionsPayload) -> tuple[str, ...]:
    """Return a word for each label: of a whole picture the best class with its score, of objects their number.

    Masks add their share of the picture, keypoints how many of the best object are seen, turned boxes their angles.
    """
    if isinstance(frame.top, list):
        return tuple(f"{best.label} {best.score:.2f}" for best in frame.top[:1])
    found: dict[str, list[DetectedObject]] = {}
    for one in frame.objects:
        found.setdefault(one.label, []).append(one)
    return tuple(_words(label, found[label], frame) for label in sorted(found))


def counted(counts: dict[str, int]) -> tuple[str, ...]:
    """Return a word for each label of a summary."""
    return tuple(f"{label} {count}" for label, count in sorted(counts.items()))


def _words(label: str, objects: Sequence[DetectedObject], frame: DetectionsPayload) -> str:
    details = [one for one in (_area(objects, frame), _points(objects), _angles(objects)) if one]
    return f"{label} {len(objects)}" + (f" ({', '.join(details)})" if details else "")


def _area(objects: Sequence[DetectedObject], frame: DetectionsPayload) -> str:
    rings = [ring for one in objects if isinstance(one.polygons, list) for ring in one.polygons]
    picture = frame.width * frame.height
    if not rings or picture <= 0:
        return ""
    return f"{sum(map(_enclosed, rings)) / picture:.1%} of the picture"


def _enclosed(ring: Sequence[float]) -> float:
    """Return the area of a ring x, y, x, y, ... by the shoelace formula."""
    points = list(zip(ring[::2], ring[1::2], strict=False))
    return abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairwise([*points, *points[:1]]))) / 2


def _points(objects: Sequence[DetectedObject]) -> str:
    best = max(objects, key=lambda one: one.score)
    if isinstance(best.keypoints, msgspec.UnsetType):
        return ""
    seen = sum(score >= _SEEN_SCORE for _, _, score in best.keypoints)
    return f"{seen} of {len(best.keypoints)} points"


def _angles(objects: Sequence[DetectedObject]) -> str:
    turned = [f"{degrees(one.angle):.0f}°" for one in objects if isinstance(one.angle, float)]
    return ", ".join([*turned[:_ANGLES], *(["..."] if len(turned) > _ANGLES else [])])
