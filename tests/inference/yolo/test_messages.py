"""Messages of each task are of bounded size, hold by their schema, and count what a line counts."""

import json
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import numpy as np
import pytest

from agent.inference.yolo.detections import encode, objects_of, top_of
from agent.inference.yolo.objects import Objects, Words, no_objects
from agent.messages.children import Detections
from agent.processes.channel import MAX_MESSAGE_BYTES
from agent.processes.slots.frame_slot import Frame

SCHEMA: Final = json.loads((Path(__file__).parents[3] / "docs" / "schemas" / "detections.json").read_text())
NAMES: Final = ("part", "other")
SIZE: Final = (1080, 1920)
CONTROLS: Final = {"device": "d", "line": "l", "stream": "s", "product": None, "ready": False, "boot": "b", "seq": 0}


def crowd(count: int, **more: object) -> Objects:
    dice = np.random.default_rng(0)
    boxes = dice.uniform(1000, 1900, (count, 4)).astype(np.float32)
    scores = np.linspace(1, 0.3, count, dtype=np.float32)
    return Objects(boxes, scores, np.zeros(count, np.int32), **more)  # type: ignore[arg-type] # what one task adds


def told(found: Objects) -> tuple[Detections, dict[str, Any]]:
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 7, 0, 0, 0, 0, 0)
    message = encode("s", "m:n@1", frame, SIZE, objects_of(found, NAMES), top_of(found, NAMES))
    tail: dict[str, Any] = json.loads(b"{" + message.tail)
    jsonschema.validate(CONTROLS | {"v": 1, "latency_ms": 1.0} | tail, SCHEMA)
    return message, tail


KEYPOINTS: Final = np.random.default_rng(1).uniform(1000, 1900, (300, 17, 3)).astype(np.float32)
RING: Final = np.random.default_rng(2).uniform(1000, 1900, (64, 2)).astype(np.float32)


@pytest.mark.parametrize("task", ["pose", "segment"])
def test_the_lowest_scores_of_a_crowd_are_left_out_and_counted(task: str) -> None:
    more = {"keypoints": KEYPOINTS} if task == "pose" else {"polygons": ((RING,),) * 300}
    message, tail = told(crowd(300, **more))
    assert len(msgspec.msgpack.encode(message)) < MAX_MESSAGE_BYTES
    assert tail["left_out"] + len(tail["objects"]) == 300
    assert len(tail["objects"]) > 100
    assert [item["score"] for item in tail["objects"]] == sorted(
        (item["score"] for item in tail["objects"]), reverse=True
    )
    assert message.counts == (("part", 300),)


def test_what_fits_is_whole() -> None:
    _, tail = told(crowd(20, keypoints=KEYPOINTS[:20]))
    assert ("left_out" in tail, len(tail["objects"]), len(tail["objects"][0]["keypoints"])) == (False, 20, 17)
    _, plain = told(crowd(300))
    assert {*plain, *plain["objects"][0]} & {"left_out", "top", "polygons", "keypoints", "angle", "corners"} == set()


def test_a_turned_box_has_angle_and_corners() -> None:
    corners = np.array([[[20, 10], [54.64, 30], [44.64, 47.32], [10, 27.32]]], np.float32)
    _, tail = told(crowd(1, corners=corners))
    assert tail["objects"][0]["angle"] == pytest.approx(np.pi / 6, abs=1e-3)
    assert tail["objects"][0]["corners"][1] == [54.6, 30.0]


def test_of_a_classified_frame_the_best_class_counts() -> None:
    words = Words(np.array([0.9, 0.1], np.float32), np.array([1, 0], np.int32))
    message, tail = told(no_objects(words))
    assert (tail["objects"], [item["label"] for item in tail["top"]]) == ([], ["other", "part"])
    assert message.counts == (("other", 1),)


def test_a_scaled_picture_moves_all_that_a_task_adds() -> None:
    corners = np.array([[[0, 0], [10, 0], [10, 4], [0, 4]]], np.float32)
    found = crowd(1, keypoints=KEYPOINTS[:1], polygons=((RING,),), corners=corners).resized((100, 100), (200, 300))
    assert found.keypoints is not None
    assert found.polygons is not None
    assert found.corners is not None
    np.testing.assert_allclose(found.keypoints, KEYPOINTS[:1] * (3, 2, 1), rtol=1e-5)
    np.testing.assert_allclose(found.polygons[0][0], RING * (3, 2), rtol=1e-5)
    np.testing.assert_allclose(found.corners, corners * (3, 2), rtol=1e-5)
