"""A real worker, real models, frames that never stop: which answer carries which name, and in which order."""

from collections.abc import Callable

import msgspec
from inference.worker.plant import Feeder, PlantProcess

from agent.messages.children import Assign, CacheState, Detections, Hello, Message, SwapFailed, Swapped
from agent.messages.payloads import DetectedObject
from agent.messages.references import ModelVersion

Make = Callable[..., ModelVersion]
NewPlant = Callable[..., PlantProcess]
Feed = Callable[..., Feeder]
SWAPS = 200
TWO_STREAMS = {"cam-1": "line-1", "cam-2": "line-1"}


class Tail(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    frame: int
    captured_at: str
    width: int
    height: int
    objects: list[DetectedObject]


def tail_of(message: Detections) -> Tail:
    return msgspec.json.decode(b"{" + message.tail, type=Tail)


def test_one_frame_makes_the_contracts_json(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    plant.switch(make_version("cap", names=("cap", "no-cap"), boxes=((8, 16, 40, 48, 0.9, 0), (2, 2, 9, 9, 0.5, 1))))
    detections = plant.detect()
    tail = tail_of(detections)
    assert (tail.model, tail.frame, tail.width, tail.height) == ("cap:n@1", detections.frame, 64, 64)
    assert detections.tail.startswith(b'"model":"cap:n@1","frame":')
    assert tail.captured_at.endswith("Z")
    assert len(tail.captured_at) == len("2026-01-01T06:00:00.000Z")
    first = tail.objects[0]
    assert (first.label, first.class_, first.box) == ("cap", 0, (8.0, 16.0, 40.0, 48.0))
    assert abs(first.score - 0.9) < 0.01
    assert detections.counts == (("cap", 1), ("no-cap", 1))


def test_hello_names_the_runtimes(new_plant: NewPlant) -> None:
    plant = new_plant()
    plant.wait_until(lambda: bool(plant.of(Hello)))
    assert "openvino" in plant.of(Hello)[0].versions


def test_200_swaps_beside_frames_lose_and_mix_nothing(new_plant: NewPlant, make_version: Make, feed: Feed) -> None:
    plant = new_plant(streams=TWO_STREAMS)
    one, other = make_version("one"), make_version("other")
    assert plant.switch(one).report.residency == "cold"
    feeders = [feed(writer, 0.002) for writer in plant.writers.values()]
    assert plant.switch(other).report.residency == "cold"
    for turn in range(SWAPS):
        report = plant.switch((one, other)[turn % 2]).report
        assert (report.residency, report.order, report.frames_lost) == ("resident", "make-before-break", 0)
        assert (report.load_ms, report.blind_ms) == (0, 0)
    for feeder in feeders:
        feeder.stop()
    offered = {stream: feeder.offered for stream, feeder in zip(plant.writers, feeders, strict=True)}
    plant.wait_until(lambda: frames_of(plant) == {stream: list(range(count)) for stream, count in offered.items()})
    assert_labels_and_order(plant.messages)


def frames_of(plant: PlantProcess) -> dict[str, list[int]]:
    return {stream: [m.frame for m in plant.of(Detections) if m.stream == stream] for stream in plant.writers}


def assert_labels_and_order(messages: list[Message]) -> None:
    """Every answer is of the model that was reported last, and its labels are that model's."""
    active = ""
    seen = 0
    for message in messages:
        if isinstance(message, Swapped):
            active = message.model
        if isinstance(message, Detections):
            seen += 1
            assert message.model == active
            assert tail_of(message).model == active
            assert {item.label for item in tail_of(message).objects} == {active.partition(":")[0]}
    assert seen


def test_the_model_that_is_active_already_is_reported_at_once(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    version = make_version("one")
    plant.switch(version)
    report = plant.switch(version).report
    assert (report.residency, report.load_ms, report.warmup_ms, report.blind_ms) == ("resident", 0, 0, 0)


def test_a_frame_waits_for_the_first_model(new_plant: NewPlant, make_version: Make, feed: Feed) -> None:
    plant = new_plant()
    feeder = feed(plant.writers["cam-1"])
    report = plant.switch(make_version("one")).report
    assert (report.frames_lost, report.blind_ms, report.residency) == (0, 0, "cold")
    plant.wait_until(lambda: len(plant.of(Detections)) > 5)
    assert plant.of(Detections)[0].frame == 0
    assert feeder.offered >= 5


def test_lines_share_a_model_and_swap_apart(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant(streams={"cam-1": "line-1", "cam-2": "line-2"})
    one, other = make_version("one"), make_version("other")
    changes = [plant.assign(one, line) for line in ("line-1", "line-2")]
    assert all(isinstance(plant.answer(change), Swapped) for change in changes)
    loads = [state for state in plant.of(CacheState) if any(row.state == "loading" for row in state.models)]
    assert all(len(state.models) == 1 for state in loads), "two lines that ask for one model load it once"
    plant.switch(other, "line-2")
    assert plant.detect("cam-1").model == "one:n@1"
    assert plant.detect("cam-2").model == "other:n@1"
    plant.wait_for_ledger({"one:n@1": "active", "other:n@1": "active"})


def test_an_unknown_line_is_refused(new_plant: NewPlant, make_version: Make) -> None:
    assert new_plant().refusal(make_version("one"), "line-9").reason == "unknown_line"


def test_a_newer_assignment_supersedes(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    versions = [make_version(f"model-{index}") for index in range(6)]
    changes = [plant.assign(version) for version in versions]
    assert isinstance(plant.answer(changes[-1]), Swapped)
    for change in changes[:-1]:
        answer = plant.answer(change)
        assert isinstance(answer, Swapped) or answer.reason == "superseded"
    assert plant.detect().model == "model-5:n@1"
    assert plant.of(Swapped)[-1].change == changes[-1]


def test_an_older_change_than_the_newest_is_refused(new_plant: NewPlant, make_version: Make) -> None:
    plant = new_plant()
    plant.switch(make_version("one"))
    late = Assign(line="line-1", change=-1, model=make_version("late"))
    plant.send(late)
    answer = plant.answer(-1)
    assert isinstance(answer, SwapFailed)
    assert (answer.reason, answer.active) == ("superseded", "one:n@1")
    assert plant.detect().model == "one:n@1"
