"""Where loads run: idle where cores have time to spare, and where they have none, by who waits for the load."""

from collections.abc import Callable

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies, wait_for

from agent.inference.scheduling import load_priority, thread_priority
from agent.inference.scheduling.thread_priority import LoadPriority

NewDummies = Callable[..., PlantOfDummies]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}
NEVER_ENOUGH, ALWAYS_ENOUGH = 2.0, 0.0


@pytest.fixture
def rungs(monkeypatch: pytest.MonkeyPatch) -> list[LoadPriority]:
    """Note where each load runs."""
    seen: list[LoadPriority] = []

    def note(work: Callable[[], None], rung: LoadPriority) -> None:
        seen.append(rung)
        work()

    monkeypatch.setattr(thread_priority, "run_aside", note)
    return seen


def test_what_is_to_spare_is_enough_for_a_load(
    new_dummies: NewDummies, runtime: DummyRuntime, rungs: list[LoadPriority], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_priority, "_SPARE_SHARE", ALWAYS_ENOUGH)
    plant = new_dummies(lines=TWO_LINES)
    a, b, c = (runtime.make(name, 30) for name in "abc")
    plant.switch(a)
    plant.switch(b)
    plant.switch(c, "line-2")
    assert rungs == ["usual", "idle", "idle"], "beside the first one nothing serves"


def test_on_busy_cores_a_load_goes_before_frames_of_its_own_line_only(
    new_dummies: NewDummies, runtime: DummyRuntime, rungs: list[LoadPriority], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_priority, "_SPARE_SHARE", NEVER_ENOUGH)
    plant = new_dummies(lines=TWO_LINES)
    a, b, c, d = (runtime.make(name, 30) for name in "abcd")
    plant.switch(a)
    plant.switch(b)
    assert rungs == ["usual", "usual"], "line-1 alone serves, and waits"
    plant.switch(c, "line-2")
    plant.prepare(d)
    assert rungs[2:] == ["behind", "behind"], "line-1 serves on; nobody waits for what is announced"


def test_on_busy_cores_frames_of_a_line_that_keeps_ready_go_before_its_load(
    new_dummies: NewDummies, runtime: DummyRuntime, rungs: list[LoadPriority], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_priority, "_SPARE_SHARE", NEVER_ENOUGH)
    plant = new_dummies()
    a, b = (runtime.make(name, 30) for name in "ab")
    plant.switch(a)
    plant.answer(plant.assign(b, keeps_ready=True))
    assert rungs == ["usual", "behind"]


def test_a_newer_assignment_of_what_loads_says_anew_whether_the_line_is_ready(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    a, b = (runtime.make(name, 30) for name in "ab")
    plant.switch(a)
    runtime.behaviours["b"].load_may_end.clear()
    first = plant.assign(b, keeps_ready=True)
    wait_for(runtime.behaviours["b"].load_began.is_set)
    job = plant.worker._loader._jobs[b]
    assert (job.interested, job.unready) == ({"line-1"}, set())
    second = plant.assign(b, keeps_ready=False)
    plant.answer(first)
    wait_for(lambda: job.unready == {"line-1"})
    runtime.behaviours["b"].load_may_end.set()
    plant.answer(second)
