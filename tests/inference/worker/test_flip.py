"""The moment of a swap, frame by frame, with models that answer when they are told to."""

import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import Feeder, offer

from agent.inference.backends import InferenceError
from agent.messages.children import CacheState, Detections, InferenceFailed, Swapped
from agent.messages.references import ModelVersion

NewDummies = Callable[..., PlantOfDummies]
Feed = Callable[..., Feeder]
TWO_STREAMS = {"cam-1": "line-1", "cam-2": "line-1"}


def two_models(plant: PlantOfDummies, runtime: DummyRuntime) -> tuple[ModelVersion, ModelVersion]:
    """Make two resident models, the first one active."""
    old, new = runtime.make("old"), runtime.make("new")
    for version in (new, old):
        plant.switch(version)
    return old, new


def models_said(plant: PlantOfDummies) -> list[str]:
    """List models in the order of the pipe: `+` a swap, then stream and model of each answer."""
    said = []
    for message in plant.messages:
        if isinstance(message, Swapped):
            said.append(f"+{message.model}")
        if isinstance(message, Detections):
            said.append(f"{message.stream} {message.model}")
    return said


def test_a_frame_under_the_old_model_is_answered_before_the_swap_and_no_other_waits_for_it(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines=TWO_STREAMS)
    _, new = two_models(plant, runtime)
    slow = runtime.behaviours["old"]
    slow.answer_may_end.clear()
    offer(plant.writers["cam-1"])
    assert slow.answers_begun.acquire(timeout=60)
    change = plant.assign(new)
    wait_for(lambda: plant.worker._lines["line-1"].active_reference == "new:n@1")
    offer(plant.writers["cam-2"])
    assert runtime.behaviours["new"].answers_begun.acquire(timeout=60), "the other stream is held up by the flip"
    assert models_said(plant)[2:] == []
    slow.answer_may_end.set()
    answer = plant.answer(change)
    assert isinstance(answer, Swapped)
    plant.wait_until(lambda: len(plant.of(Detections)) == 2)
    assert models_said(plant)[2:] == ["cam-1 old:n@1", "+new:n@1", "cam-2 new:n@1"]


def test_a_model_under_a_frame_is_not_closed(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100)
    old, large = runtime.make("old"), runtime.make("large", 90)
    plant.switch(old)
    slow = runtime.behaviours["old"]
    slow.answer_may_end.clear()
    offer(plant.writers["cam-1"])
    assert slow.answers_begun.acquire(timeout=60)
    change = plant.assign(large)
    wait_for(lambda: plant.worker._lines["line-1"].active is None)
    assert plant.resident()["old:n@1"] == "active"
    assert "large" not in runtime.loads
    slow.answer_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert models_said(plant) == ["+old:n@1", "cam-1 old:n@1", "+large:n@1"]


@pytest.mark.parametrize("is_request", [True, False])
def test_loads_are_raised_only_where_a_picture_of_the_new_model_may_be_at_idle_priority(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch, *, is_request: bool
) -> None:
    plant, old, new = new_dummies(), runtime.make("old"), runtime.make("new")
    plant.switch(old)
    plant.prepare(new)
    raised: list[str] = []
    spy = SimpleNamespace(restore_normal=lambda: raised.append("all"))
    monkeypatch.setattr("agent.inference.serving.line_gate.load_priority", spy)
    with plant.worker._cache.borrowed(new, is_request=is_request):
        plant.switch(new)
    assert raised == ([] if is_request else ["all"])


def test_a_line_that_waits_for_its_switch_holds_up_no_other_line_of_the_same_model(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines={"cam-1": "line-1", "cam-2": "line-2"})
    old, new = runtime.make("old"), runtime.make("new")
    plant.switch(old, "line-1")
    plant.switch(new, "line-2")
    slow = runtime.behaviours["old"]
    slow.answer_may_end.clear()
    offer(plant.writers["cam-1"])
    assert slow.answers_begun.acquire(timeout=60)
    change = plant.assign(new, "line-1")
    wait_for(lambda: plant.worker._lines["line-1"].active_reference == "new:n@1")
    for _ in range(3):  # more than the model has threads
        offer(plant.writers["cam-1"])
        plant.writers["cam-1"].wait_taken(0.2)
    offer(plant.writers["cam-2"])
    try:
        plant.wait_until(lambda: [one.stream for one in plant.of(Detections)] == ["cam-2"])
    finally:
        slow.answer_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    plant.wait_until(lambda: len(plant.of(Detections)) > 2)
    assert_each_answer_is_its_lines(plant, {"cam-1": "line-1", "cam-2": "line-2"})


def test_swaps_from_many_threads_mix_nothing(new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed) -> None:
    lines = {f"cam-{n}": f"line-{n % 2 + 1}" for n in range(4)}
    plant = new_dummies(lines=lines, budget_mib=200)
    versions = [runtime.make(name) for name in "abcd"]
    for line in ("line-1", "line-2"):
        plant.switch(versions[0], line)
    feeders = [feed(writer, 0.001) for writer in plant.writers.values()]

    def churn(line: str, step: int) -> None:
        for turn in range(60):
            plant.answer(plant.assign(versions[turn * step % 4], line))

    threads = [threading.Thread(target=churn, args=args) for args in (("line-1", 1), ("line-2", 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for feeder in feeders:
        feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == sum(feeder.offered for feeder in feeders))
    assert_each_answer_is_its_lines(plant, lines)
    assert not plant.of(InferenceFailed)
    assert all(state.used_bytes <= state.budget_bytes for state in plant.of(CacheState))


def assert_each_answer_is_its_lines(plant: PlantOfDummies, line_of: dict[str, str]) -> None:
    active: dict[str, str | None] = {}
    for message in plant.messages:
        if isinstance(message, Swapped):
            active[message.line] = message.model
        if isinstance(message, Detections):
            assert message.model == active[line_of[message.stream]]
            assert message.counts == ((message.model.partition(":")[0], 1),)


def test_failures_of_frames_are_told_folded_and_the_stream_goes_on(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies()
    plant.switch(runtime.make("a"))
    behaviour = runtime.behaviours["a"]
    behaviour.answer_error = InferenceError("the runtime stumbled")
    feeder = feed(plant.writers["cam-1"], 0.001)
    plant.wait_until(lambda: len(plant.of(InferenceFailed)) >= 5)
    behaviour.answer_error = RuntimeError("unheard of")
    plant.wait_until(lambda: "unheard of" in plant.of(InferenceFailed)[-1].detail)
    behaviour.answer_error = None
    plant.wait_until(lambda: bool(plant.of(Detections)))
    feeder.stop()
    plant.wait_until(lambda: plant.of(Detections)[-1].frame == feeder.offered - 1)
    counts = [failed.in_a_row for failed in plant.of(InferenceFailed)]
    assert counts == [2**power for power in range(len(counts))]
    assert {failed.model for failed in plant.of(InferenceFailed)} == {"a:n@1"}
    assert "stumbled" in plant.of(InferenceFailed)[0].detail
    behaviour.answer_error = InferenceError("again")
    offer(plant.writers["cam-1"])
    plant.wait_until(lambda: plant.of(InferenceFailed)[-1].detail == "again")
    assert plant.of(InferenceFailed)[-1].in_a_row == 1


def test_an_inference_under_way_is_marked_and_a_load_is_not(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    version = runtime.make("a")
    behaviour = runtime.behaviours["a"]
    behaviour.load_may_end.clear()
    change = plant.assign(version)
    assert behaviour.load_began.wait(60)
    assert plant.busy_now == 0
    behaviour.answer_may_end.clear()
    behaviour.load_may_end.set()
    plant.answer(change)
    offer(plant.writers["cam-1"])
    assert behaviour.answers_begun.acquire(timeout=60)
    assert plant.busy_now == 1
    behaviour.answer_may_end.set()
    plant.wait_until(lambda: bool(plant.of(Detections)))
    wait_for(lambda: plant.busy_now == 0)
