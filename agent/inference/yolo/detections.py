"""Converts the objects of a frame to the JSON form in which they are published, and counts them for control."""

from collections import Counter
from typing import Any, Final, TypeAlias

import msgspec
import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from agent.inference.yolo.objects import Objects, Rings, angles_of
from agent.messages.children import Detections
from agent.messages.payloads import DetectedObject, ScoredLabel
from agent.messages.texts.utc import utc_text_of_ns
from agent.processes.channel import MAX_MESSAGE_BYTES, MessageTooLargeError
from agent.processes.slots.frame_slot import Frame

_ENCODER = msgspec.json.Encoder()
_MOST_BYTES: Final = MAX_MESSAGE_BYTES - 4096
"""Bound on the encoded objects of a message, which leaves room for its other fields."""
_COUNT_BYTES: Final = 16
Untyped: TypeAlias = Any  # numbers nested as deep as their array


class _Tail(msgspec.Struct, frozen=True):
    model: str
    frame: int
    captured_at: str
    width: int
    height: int
    objects: list[DetectedObject]
    top: list[ScoredLabel] | msgspec.UnsetType = msgspec.UNSET
    left_out: int | msgspec.UnsetType = msgspec.UNSET


def objects_of(objects: Objects, names: tuple[str, ...]) -> list[DetectedObject]:
    """Convert objects to the published form, in order: labels by name, scores with 4 decimals, pixels with 1."""
    found = [
        DetectedObject(
            label=names[index],
            class_=index,
            score=round(score, 4),
            box=(round(box[0], 1), round(box[1], 1), round(box[2], 1), round(box[3], 1)),
        )
        for index, score, box in zip(
            objects.classes.tolist(), objects.scores.tolist(), objects.boxes.tolist(), strict=True
        )
    ]
    if objects.polygons is not None:
        return [replace(one, polygons=_polygons(rings)) for one, rings in zip(found, objects.polygons, strict=True)]
    if objects.keypoints is not None:
        points = _rounded(objects.keypoints, (1, 1, 3))
        return [replace(one, keypoints=list(map(tuple, own))) for one, own in zip(found, points, strict=True)]
    if objects.corners is not None:
        turned = zip(found, _rounded(objects.corners, 1), _rounded(angles_of(objects.corners), 4), strict=True)
        return [replace(one, angle=angle, corners=tuple(map(tuple, corners))) for one, corners, angle in turned]
    return found


def top_of(objects: Objects, names: tuple[str, ...]) -> list[ScoredLabel] | msgspec.UnsetType:
    """Convert the classes of a whole picture to the published form; UNSET where the model finds objects."""
    if objects.top is None:
        return msgspec.UNSET
    pairs = zip(objects.top.classes.tolist(), objects.top.scores.tolist(), strict=True)
    return [ScoredLabel(label=names[index], class_=index, score=round(score, 4)) for index, score in pairs]


def _polygons(rings: Rings) -> list[list[float]]:
    return [_rounded(ring.ravel(), 1) for ring in rings]


def _rounded(numbers: NDArray[np.float32], decimals: int | tuple[int, ...]) -> Untyped:
    """Return numbers as nested lists, rounded as decimal text; `decimals` may differ by the last side's number."""
    if isinstance(decimals, int):
        return np.round(numbers.astype(np.float64), decimals).tolist()
    columns = [np.round(numbers[..., at].astype(np.float64), places) for at, places in enumerate(decimals)]
    return np.stack(columns, axis=-1).tolist()


def encode(  # noqa: PLR0913, PLR0917 - the parts of a message
    stream: str,
    model: str,
    frame: Frame,
    size: tuple[int, int],
    objects: list[DetectedObject],
    top: list[ScoredLabel] | msgspec.UnsetType = msgspec.UNSET,
) -> Detections:
    """Build the message of one inferred frame; `size` is (height, width) of the picture that the boxes refer to.

    Of a classifying model the best class is counted. The image is not used, because its buffer is released by now.
    Where polygons or keypoints take more than a message may have, the objects with the lowest scores are left out;
    raises MessageTooLargeError where class names alone are too long for a message to control.
    """
    height, width = size
    parts = _Tail(model, frame.number, utc_text_of_ns(frame.captured_unix_ns), width, height, objects, top)
    tail = _ENCODER.encode(parts)[1:]
    counted = top[:1] if isinstance(top, list) else objects
    counts = tuple(sorted(Counter(item.label for item in counted).items()))
    counts_bytes = sum(len(label.encode()) + _COUNT_BYTES for label, _ in counts)
    while len(tail) + counts_bytes > _MOST_BYTES and len(parts.objects) > 1 and _has_outlines(objects[0]):
        kept = len(parts.objects) * (_MOST_BYTES - counts_bytes) // len(tail)
        parts = replace(parts, objects=objects[: max(1, kept)], left_out=len(objects) - max(1, kept))
        tail = _ENCODER.encode(parts)[1:]
    if len(tail) + counts_bytes > _MOST_BYTES:
        what = f"{len(objects)} objects in {len(tail) + counts_bytes} bytes"
        raise MessageTooLargeError(f"{what}; an answer may have {_MOST_BYTES}: shorten the names of the classes")
    return Detections(
        stream=stream,
        model=model,
        frame=frame.number,
        captured_ns=frame.captured_ns,
        tail=tail,
        counts=counts,
    )


def _has_outlines(item: DetectedObject) -> bool:
    return item.polygons is not msgspec.UNSET or item.keypoints is not msgspec.UNSET
