"""A line goes from a model of one task to one of another between two frames, in a worker process.

`pytest -m soak tests/inference/worker/test_tasks.py` makes 1,000 changes between four tasks on two streams.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import pytest
from inference.worker.plant import Feeder, PlantProcess, entry_of
from support.task_answers import ADDS, POINTS, TASKS, write_task_model

from agent.messages.children import Detections, InferenceFailed, Log, ModelRuns, SwapFailed, Swapped
from agent.messages.payloads import DetectedObject, ScoredLabel
from agent.messages.references import ModelVersion

NewPlant = Callable[..., PlantProcess]
Feed = Callable[..., Feeder]

TWO_STREAMS: Final = {"cam-1": "line-1", "cam-2": "line-1"}
FOUR: Final = ("detect", "segment", "obb", "classify")
LONG: Final = 1_000
SHORT: Final = 40


class _Tail(msgspec.Struct):
    model: str
    objects: list[DetectedObject]
    top: list[ScoredLabel] = []


@pytest.fixture
def versions(tmp_path: Path) -> dict[str, ModelVersion]:
    """Write a model of each task, whose first class is its own name."""
    return {task: entry_of(task, write_task_model(tmp_path / f"{task}.onnx", task, (task, "other"))) for task in TASKS}


def assert_own(message: Detections, task: str) -> None:
    """Check that a message has what the task gives, by the model's own name, and nothing of another task."""
    tail = msgspec.json.decode(b"{" + message.tail, type=_Tail)
    assert (message.model, tail.model) == (f"{task}:n@1",) * 2
    assert message.counts == ((task, 1),)
    if task == "classify":
        assert (tail.objects, [item.label for item in tail.top]) == ([], [task, "other"])
        return
    (found,) = tail.objects
    assert (found.label, tail.top) == (task, [])
    has = {name for name in ADDS.values() if getattr(found, name) is not msgspec.UNSET}
    assert has == {"box", ADDS[task]}


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_line_goes_from_task_to_task_between_two_frames(
    new_plant: NewPlant, versions: dict[str, ModelVersion], backend: str
) -> None:
    pytest.importorskip(f"agent.inference.backends.{backend}")
    plant = new_plant()
    for task in (*TASKS, "segment", "detect"):
        plant.switch(msgspec.structs.replace(versions[task], backend=backend))
        assert_own(plant.detect(), task)
    (runs,) = {run.reading for run in plant.of(ModelRuns) if run.model == "pose:n@1"}
    assert (runs.task, runs.layout, runs.keypoints) == ("pose", "v8", POINTS)


def test_golden_pictures_of_each_task_are_met_or_the_model_is_refused(
    new_plant: NewPlant, versions: dict[str, ModelVersion], tmp_path: Path
) -> None:
    import cv2  # noqa: PLC0415 - only this test writes a picture
    import numpy as np  # noqa: PLC0415 - as above

    plant = new_plant()
    for task in TASKS:
        plant.switch(versions[task])
        tail = msgspec.json.decode(b"{" + plant.detect().tail)
        golden = tmp_path / f"golden-{task}"
        golden.mkdir()
        cv2.imwrite(str(golden / "01.png"), np.full((64, 64, 3), 90, np.uint8))
        expected = {"objects": tail["objects"], "top": tail.get("top", [])}
        for version, wrong in (("2", False), ("3", task != "detect")):
            if wrong:
                _spoil(expected)
            (golden / "01.json").write_bytes(msgspec.json.encode(expected))
            proven = msgspec.structs.replace(versions[task], version=version, golden=str(golden))
            if not wrong:
                plant.switch(proven)
                continue
            refused = plant.refusal(proven)
            assert (refused.reason, "01.png" in refused.detail) == ("proof_failed", True)


def _spoil(expected: dict[str, list[dict[str, object]]]) -> None:
    """Change what the task adds, and leave boxes, labels and scores as they are."""
    for item in expected["objects"]:
        changes: dict[str, object] = {
            "polygons": [[8, 16, 14, 16, 14, 48, 8, 48]],
            "keypoints": [[20, 30, 0.9], [40, 48, 0.8]],
            "angle": 1.0,
        }
        item.update({name: value for name, value in changes.items() if name in item})
    if expected["top"]:
        expected["top"].reverse()


def churn(plant: PlantProcess, versions: dict[str, ModelVersion], changes: int, feed: Feed) -> None:
    """Change between four tasks while two cameras offer frames; every frame is answered, once, by who serves."""
    feeders = {stream: feed(writer, 0.01) for stream, writer in plant.writers.items()}
    chance = random.Random(5)
    asked: list[tuple[int, str]] = []
    task = FOUR[0]
    for _ in range(changes):
        task = chance.choice([other for other in FOUR if other != task])
        asked.append((plant.assign(versions[task]), task))
        plant.answer(asked[-1][0])
    for feeder in feeders.values():
        feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == sum(feeder.offered for feeder in feeders.values()))
    assert not plant.of(InferenceFailed)
    assert not plant.of(SwapFailed)
    assert not [log for log in plant.of(Log) if log.level != "INFO"]
    reports = [message.report for message in plant.of(Swapped)]
    assert {(report.frames_lost, report.blind_ms) for report in reports} == {(0, 0)}
    active = ""
    for message in plant.messages:
        if isinstance(message, Swapped):
            active = message.model.partition(":")[0]
        elif isinstance(message, Detections):
            assert_own(message, active)
    for stream, feeder in feeders.items():
        frames = [message.frame for message in plant.of(Detections) if message.stream == stream]
        assert frames == list(range(frames[0], frames[0] + feeder.offered))


def _started(new_plant: NewPlant, versions: dict[str, ModelVersion]) -> PlantProcess:
    plant = new_plant(streams=TWO_STREAMS)
    for task in FOUR:
        plant.switch(versions[task])
    return plant


def test_changes_between_four_tasks_lose_no_frame_and_name_none_wrongly(
    new_plant: NewPlant, versions: dict[str, ModelVersion], feed: Feed
) -> None:
    churn(_started(new_plant, versions), versions, SHORT, feed)


@pytest.mark.soak
@pytest.mark.timeout(1_200)
def test_a_thousand_changes_between_four_tasks(
    new_plant: NewPlant, versions: dict[str, ModelVersion], feed: Feed
) -> None:
    churn(_started(new_plant, versions), versions, LONG, feed)
