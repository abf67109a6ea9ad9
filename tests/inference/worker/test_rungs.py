"""Where loads run: idle where cores have time to spare, and where they have none, by who waits for the load."""

from collections.abc import Callable

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies

from agent.inference import intake, priority
from agent.inference.priority import Rung

NewDummies = Callable[..., PlantOfDummies]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}
NEVER_ENOUGH, ALWAYS_ENOUGH = 2.0, 0.0


@pytest.fixture
def rungs(monkeypatch: pytest.MonkeyPatch) -> list[Rung]:
    """Note where each load runs."""
    seen: list[Rung] = []

    def note(work: Callable[[], None], rung: Rung) -> None:
        seen.append(rung)
        work()

    monkeypatch.setattr(priority, "run_aside", note)
    return seen


def test_what_is_to_spare_is_enough_for_a_load(
    new_dummies: NewDummies, runtime: DummyRuntime, rungs: list[Rung], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_SPARE_SHARE", ALWAYS_ENOUGH)
    plant = new_dummies(lines=TWO_LINES)
    a, b, c = (runtime.make(name, 30) for name in "abc")
    plant.switch(a)
    plant.switch(b)
    plant.switch(c, "line-2")
    assert rungs == ["usual", "idle", "idle"], "the first one brings the runtime"


def test_on_busy_cores_a_load_goes_before_frames_of_its_own_line_only(
    new_dummies: NewDummies, runtime: DummyRuntime, rungs: list[Rung], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "_SPARE_SHARE", NEVER_ENOUGH)
    plant = new_dummies(lines=TWO_LINES)
    a, b, c, d = (runtime.make(name, 30) for name in "abcd")
    plant.switch(a)
    plant.switch(b)
    assert rungs == ["usual", "usual"], "line-1 alone serves, and waits"
    plant.switch(c, "line-2")
    plant.prepare(d)
    assert rungs[2:] == ["behind", "behind"], "line-1 serves on; nobody waits for what is announced"
