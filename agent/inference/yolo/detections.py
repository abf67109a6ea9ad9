"""Converts the objects of a frame to the JSON form in which they are published, and counts them for control."""

from collections import Counter
from typing import Final

import msgspec

from agent.inference.yolo.objects import Objects
from agent.messages.children import Detections
from agent.messages.payloads import DetectedObject
from agent.messages.utc import utc_text_of_ns
from agent.processes.channel import MAX_MESSAGE_BYTES, MessageTooLargeError
from agent.processes.slots.frame_slot import Frame

_ENCODER = msgspec.json.Encoder()
_MOST_BYTES: Final = MAX_MESSAGE_BYTES - 4096
"""Bound on the encoded objects of a message, which leaves room for its other fields."""
_COUNT_BYTES: Final = 16


class _Tail(msgspec.Struct, frozen=True):
    model: str
    frame: int
    captured_at: str
    width: int
    height: int
    objects: list[DetectedObject]


def objects_of(objects: Objects, names: tuple[str, ...]) -> list[DetectedObject]:
    """Convert objects to the published form, in order: labels by name, scores with 4 decimals, boxes with 1."""
    return [
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


def encode(stream: str, model: str, frame: Frame, size: tuple[int, int], objects: list[DetectedObject]) -> Detections:
    """Build the message of one inferred frame; `size` is (height, width) of the picture that the boxes refer to.

    The image is not used, because its buffer is released by now. Raises MessageTooLargeError where class names are too
    long for a message to control.
    """
    height, width = size
    parts = _Tail(model, frame.number, utc_text_of_ns(frame.captured_unix_ns), width, height, objects)
    tail = _ENCODER.encode(parts)[1:]
    counts = tuple(sorted(Counter(item.label for item in objects).items()))
    size_bytes = len(tail) + sum(len(label.encode()) + _COUNT_BYTES for label, _ in counts)
    if size_bytes > _MOST_BYTES:
        what = f"{len(objects)} objects in {size_bytes} bytes"
        raise MessageTooLargeError(f"{what}; an answer may have {_MOST_BYTES}: shorten the names of the classes")
    return Detections(
        stream=stream,
        model=model,
        frame=frame.number,
        captured_ns=frame.captured_ns,
        tail=tail,
        counts=counts,
    )
