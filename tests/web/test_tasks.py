"""Objects of each task in a picture, over HTTP: as in a detections message, and as tensors."""

from typing import Any, Final

import numpy as np
import pytest
from support.gateway_plant import GatewayPlant, jpeg
from support.task_answers import ADDS, SIDE, TASKS

FURTHER: Final = ("segment", "pose", "obb")
HAS: Final = {"label", "class", "score", "box"}


@pytest.mark.parametrize("task", TASKS[1:])
def test_a_picture_in_and_what_the_task_tells_out(plant: GatewayPlant, task: str) -> None:
    with plant.client() as client:
        found = client.post(f"/v2/models/{task}/detect", content=jpeg(2 * SIDE, 2 * SIDE)).json()
    assert (found["model"], found["width"], found["height"]) == (f"{task}:n@1", 2 * SIDE, 2 * SIDE)
    if task == "classify":
        assert found["objects"] == []
        assert [one["label"] for one in found["top"]] == [task, "other"]
        return
    (one,) = found["objects"]
    assert "top" not in found
    assert HAS | {ADDS[task]} <= set(one)
    assert one["label"] == task
    if task != "obb":  # whose box is a hull
        assert one["box"] == [16.0, 32.0, 80.0, 96.0]  # in pixels of the picture, twice the input's
    if task == "segment":
        points = np.array(one["polygons"][0]).reshape(-1, 2)
        assert (*points.min(axis=0), *points.max(axis=0)) == (16, 32, 80, 96)
    elif task == "pose":
        assert one["keypoints"] == [[16.0, 32.0, 0.9], [80.0, 96.0, 0.8]]


@pytest.mark.parametrize("task", TASKS[1:])
def test_tensors_of_each_task(plant: GatewayPlant, task: str) -> None:
    pixels = np.full((SIDE, SIDE, 3), 90, np.uint8)
    image = {"name": "image", "shape": [SIDE, SIDE, 3], "datatype": "UINT8", "data": pixels.ravel().tolist()}
    with plant.client() as client:
        answer: dict[str, Any] = client.post(f"/v2/models/{task}/infer", json={"inputs": [image]}).json()
        said = client.get(f"/v2/models/{task}").json()
    outputs = {one["name"]: one["data"] for one in answer["outputs"]}
    assert [port["name"] for port in said["outputs"]] == list(outputs)
    assert said["parameters"]["task"] == task
    if task == "classify":
        assert (outputs["labels"], outputs["classes"]) == ([task, "other"], [0, 1])
        assert set(outputs) == {"scores", "classes", "labels"}
        return
    assert outputs["labels"] == [task]
    assert ADDS[task] in outputs["objects"][0]
