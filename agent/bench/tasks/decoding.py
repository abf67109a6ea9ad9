"""Processor time to decode a frame of each task, of 20 objects at 640."""

import statistics
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from agent.bench.figures import spread
from agent.inference.yolo.detections import objects_of
from agent.inference.yolo.head import Head
from agent.inference.yolo.letterbox import Placement
from agent.inference.yolo.metadata import read_facts
from agent.messages.references import ModelVersion

_SIDE: Final = 640
_ANCHORS: Final = 8400
_CLASSES: Final = 80
_OBJECTS: Final = 20
_CANDIDATES: Final = 10
"""Candidates of an object, because a trained head finds each part that often."""
_PROTOTYPES: Final = 32
_POINTS: Final = (17, 3)
_TIMES: Final = 400
_QUICK: Final = 20
_PICTURE: Final = (720, 1280)
_EXTRAS: Final = {"detect": 0, "segment": _PROTOTYPES, "pose": _POINTS[0] * _POINTS[1], "obb": 1}

Array = NDArray[np.float32]


def measure(*, quick: bool) -> dict[str, Any]:
    """Decode one output of each task many times, in turn."""
    chance = np.random.default_rng(1)
    decoders = {task: _decoder(task, chance) for task in _EXTRAS}
    times_ms: dict[str, list[float]] = {task: [] for task in _EXTRAS}
    for _ in range(_QUICK if quick else _TIMES):
        for task, decode in decoders.items():
            began_ns = time.process_time_ns()
            decode()
            times_ms[task].append((time.process_time_ns() - began_ns) / 1e6)
    return {
        "decode_ms": {task: statistics.median(values) for task, values in times_ms.items()},
        "decode_spread_ms": {task: spread(values) for task, values in times_ms.items()},
        "objects": {task: decode() for task, decode in decoders.items()},
        "what": f"processor time of all threads, raw output to message objects: {_OBJECTS} objects, input {_SIDE}",
    }


def _decoder(task: str, chance: np.random.Generator) -> Callable[[], int]:
    """Return a function that decodes one output and returns the number of its objects."""
    said: dict[str, object] = {"names": [f"class{index}" for index in range(_CLASSES)], "task": task, "end2end": False}
    raw = [_output(task, chance)]
    if task == "segment":
        raw.append(_prototypes(chance))
    facts = read_facts(said | {"description": "Ultralytics YOLO11n model", "kpt_shape": list(_POINTS)})
    version = ModelVersion("bench", "n", "1", "bench.onnx", "")
    head = Head.of(version, facts, [one.shape for one in raw], (_SIDE, _SIDE))
    placement = Placement.of(_PICTURE, (_SIDE, _SIDE))
    return lambda: len(objects_of(head.decode(tuple(raw), placement), head.names))


def _centres() -> Array:
    """Return the places of the objects, (objects, 2), in pixels of the input."""
    numbers = np.arange(_OBJECTS)
    return np.column_stack((90 + numbers % 5 * 115, 185 + numbers // 5 * 90)).astype(np.float32)


def _output(task: str, chance: np.random.Generator) -> Array:
    raw = np.zeros((1, 4 + _CLASSES + _EXTRAS[task], _ANCHORS), np.float32)
    raw[0, :2] = chance.uniform(0, _SIDE, (2, _ANCHORS))
    raw[0, 2:4] = 30
    raw[0, 4 : 4 + _CLASSES] = chance.uniform(0, 0.01, (_CLASSES, _ANCHORS))
    columns = chance.choice(_ANCHORS, (_OBJECTS, _CANDIDATES), replace=False)
    for number, ((x, y), own) in enumerate(zip(_centres(), columns, strict=True)):
        raw[0, :4, own] = np.array((x, y, 100, 70)) + chance.normal(0, 1, (_CANDIDATES, 4))
        raw[0, 4 + number, own] = chance.uniform(0.4, 0.95, _CANDIDATES)
        extras = {
            "segment": np.eye(_PROTOTYPES)[number] * 4,
            "pose": np.tile((x, y, 0.8), _POINTS[0]),
            "obb": np.array([0.05 * number]),
        }
        if task in extras:
            raw[0, 4 + _CLASSES :, own] = extras[task]
    return raw


def _prototypes(chance: np.random.Generator) -> Array:
    """Return the prototypes of masks: a shape with five bays at each object, and noise."""
    cells = _SIDE // 4
    masks = chance.normal(0, 0.02, (1, _PROTOTYPES, cells, cells))
    ys, xs = np.mgrid[:cells, :cells] * 4 + 2
    for number, (x, y) in enumerate(_centres()):
        bays = 0.1 * np.sin(5 * np.arctan2(ys - y, xs - x))
        masks[0, number] += 1 - np.hypot((xs - x) / 48, (ys - y) / 33) + bays
    return masks.astype(np.float32)
