"""Loads run behind the frames of ready lines on cores without idle time."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies, wait_for

from agent.inference.scheduling import load_priority
from agent.inference.swapping.load_job import LoadJob
from agent.inference.swapping.model_loading import ModelLoader
from agent.messages.children import Preload, Swapped
from agent.messages.errors import ModelError
from agent.processes.scheduling import priorities

NewDummies = Callable[..., PlantOfDummies]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}
NORMAL = os.getpriority(os.PRIO_PROCESS, os.getpid())


@pytest.fixture(autouse=True)
def _busy_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no idle time for loads, so that who waits for them decides."""
    monkeypatch.setattr(load_priority, "ENOUGH_IDLE", 2.0)


def is_behind(runtime: DummyRuntime) -> list[bool]:
    """Return, load by load, whether it began behind the lines."""
    return [nice > NORMAL for nice in runtime.nices]


def test_a_load_goes_before_frames_of_its_own_line_only(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES)
    a, b, c, d = (runtime.make(name, 30) for name in "abcd")
    plant.switch(a)
    plant.switch(b)
    assert is_behind(runtime) == [False, False], "line-1 alone serves, and waits"
    plant.switch(c, "line-2")
    plant.prepare(d)
    assert is_behind(runtime)[2:] == [True, True], "line-1 serves on, and no line waits for the announced one"


def test_frames_of_a_line_that_keeps_ready_go_before_its_load(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    a, b = (runtime.make(name, 30) for name in "ab")
    plant.switch(a)
    plant.answer(plant.assign(b, keeps_ready=True))
    assert is_behind(runtime) == [False, True]


def test_a_load_runs_at_normal_priority_after_half_of_its_time(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    plant = new_dummies(load_timeout_s=8)
    a, b = (runtime.make(name, 30) for name in "ab")
    plant.switch(a)
    runtime.behaviours["b"].load_may_end.clear()
    change = plant.assign(b, keeps_ready=True)
    assert runtime.behaviours["b"].load_began.wait(60)
    assert runtime.loading_nice() > NORMAL
    wait_for(lambda: runtime.loading_nice() == NORMAL)
    runtime.behaviours["b"].load_may_end.set()
    plant.answer(change)


def test_a_newer_assignment_of_what_loads_says_anew_whether_the_line_is_ready(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    a, b, c = (runtime.make(name, 30) for name in "abc")
    plant.switch(a)
    blocker, wanted = runtime.behaviours["c"], runtime.behaviours["b"]
    blocker.load_may_end.clear()
    wanted.load_may_end.clear()
    plant.announce(c)
    assert blocker.load_began.wait(60)
    first = plant.assign(b, keeps_ready=True)
    wait_for(lambda: plant.worker.loads().get("b:n@1"))
    second = plant.assign(b, keeps_ready=False)
    plant.answer(first)
    blocker.load_may_end.set()
    wanted.load_may_end.set()
    assert isinstance(plant.answer(second), Swapped)
    assert is_behind(runtime) == [False, True, False], "the line waits with `ready` 0 now"


def test_a_model_is_unloaded_before_frames_only_of_the_line_that_waits_for_its_memory(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    plant = new_dummies(lines=TWO_LINES, budget_mib=100)
    for name in "abcd":
        plant.switch(runtime.make(name, 30))
    assert runtime.closing_nices == [NORMAL], "line-1 alone serves, and waits"
    plant.switch(runtime.make("e", 30), "line-2")
    assert runtime.closing_nices[1:] == [NORMAL + 5], "line-1 serves on"


def test_a_model_that_nobody_waits_for_is_unloaded_behind_the_lines(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    plant = new_dummies()
    a, b = (runtime.make(name, 30) for name in "ab")
    plant.switch(a)
    plant.switch(b)
    plant.worker.preload(Preload((), gone=(a,)))
    wait_for(lambda: runtime.closing_nices)
    assert runtime.closing_nices == [NORMAL + 5]


def test_lines_of_other_groups_are_taken_to_serve(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(guaranteed_mib=200)
    plant.switch(runtime.make("a", 30))
    assert is_behind(runtime) == [True]


def test_an_unload_has_the_priority_of_a_load_that_runs_and_of_none_that_hangs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    part: Any = None
    cache: Any = SimpleNamespace(serving=lambda: {"line-2"}, guaranteed=None)
    idle_cpu: Any = SimpleNamespace(share=0.0)
    loader = ModelLoader(
        cache,
        part,
        part,
        part,
        part,
        idle_cpu,
        part,
        make_artifact=lambda _: None,
        prove_later=lambda *_: None,
        compute="cpu",
        cache_dir=tmp_path,
        files=part,
    )
    version: Any = SimpleNamespace(reference="a:n@1")
    turn = threading.Condition()
    hangs, runs = (LoadJob(version, turn, {"line-1"}, is_late=True) for _ in range(2))
    has_begun, may_end = threading.Event(), threading.Event()
    found: list[str] = []

    def verify(_: ModelLoader, job: LoadJob) -> None:
        if job is hangs:
            has_begun.set()
            assert may_end.wait(60)
        else:
            may_end.set()
            thread.join(60)
            found.append(loader.release_priority())
        raise ModelError("file_missing", "")

    def load(job: LoadJob) -> None:
        with pytest.raises(ModelError):
            loader.load_model(job)

    monkeypatch.setattr(ModelLoader, "_verify", verify)
    thread = threading.Thread(target=load, args=(hangs,))
    thread.start()
    assert has_begun.wait(60)
    found.append(loader.release_priority())
    hangs.is_abandoned = True
    found.append(loader.release_priority())
    load(runs)
    found.append(loader.release_priority())
    assert found == ["normal", "background", "normal", "background"]
