"""A proof in idle time is in the way of no frame, no load and no stop, with dummies."""

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any, Final

import pytest
from inference.worker.dummies import MIB, Behaviour, DummyModel, DummyRuntime, PlantOfDummies, start_dummies, wait_for

from agent.inference.scheduling import load_priority
from agent.inference.scheduling.idle_cpu import IdleCpuSampler
from agent.inference.serving.slack import Gap, Slack
from agent.inference.swapping import idle_prover
from agent.inference.swapping.load_queue import LoadQueue
from agent.inference.validation.golden import UnreadableError, proof_steps
from agent.messages.canary import Compare, ComparisonBegan
from agent.messages.children import Preload, Swapped
from agent.messages.references import ModelVersion
from agent.processes.scheduling import priorities

NewDummies = Callable[..., PlantOfDummies]
PICTURE_S: Final = 0.5


@pytest.fixture(autouse=True)
def _cores_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_priority, "ENOUGH_IDLE", -1.0)


def begin_proof(plant: PlantOfDummies, runtime: DummyRuntime, version: ModelVersion) -> int:
    """Have the idle prover stand at a picture of `version`, and return its thread."""
    behaviour = runtime.behaviours[version.name]
    behaviour.check_may_end.clear()
    behaviour.check_thread = 0
    plant.worker._prover.ask(version, "a subject")
    wait_for(lambda: behaviour.check_thread)
    return behaviour.check_thread


def test_a_load_waits_for_the_picture_of_a_model_that_makes_room(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=100)
    small, large = runtime.make("small", 60), runtime.make("large", 90)
    plant.switch(small)
    begin_proof(plant, runtime, small)
    change = plant.assign(large)
    plant.wait_until(lambda: plant.resident() == {"small:n@1": "draining"})
    time.sleep(PICTURE_S)  # because a load that does not wait is refused meanwhile
    runtime.behaviours["small"].check_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    plant.wait_for_ledger({"large:n@1": "active"})


def test_proofs_wait_for_preloads(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, has_preload = threading.Event(), [True]

    def answer(_: LoadQueue) -> bool:
        asked.set()
        return has_preload[0]

    monkeypatch.setattr(LoadQueue, "has_preload", answer)
    plant, small = new_dummies(), runtime.make("small")
    plant.switch(small)
    behaviour = runtime.behaviours["small"]
    behaviour.check_thread = 0
    plant.worker._prover.ask(small, "a subject")
    assert asked.wait(60)
    assert not behaviour.check_thread
    has_preload[0] = False
    wait_for(lambda: behaviour.check_thread)


@pytest.mark.parametrize("joins", [False, True], ids=["requested", "joined"])
def test_proofs_wait_for_idle_time_that_was_seen_after_the_load_of_a_line(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch, *, joins: bool
) -> None:
    plant, small = new_dummies(), runtime.make("small")
    sampler, behaviour = plant.worker._idle_cpu, runtime.behaviours["small"]
    wait_for(lambda: sampler.has_just_had(0.0))
    if joins:
        behaviour.load_may_end.clear()
        plant.worker.preload(Preload((small,)))
        assert behaviour.load_began.wait(60)
    looked, sample, has_just_had = threading.Event(), IdleCpuSampler.sample, IdleCpuSampler.has_just_had

    def look(self: IdleCpuSampler, share: float) -> bool:
        looked.set()
        return has_just_had(self, share)

    monkeypatch.setattr(IdleCpuSampler, "sample", lambda _: None)
    change = plant.assign(small)
    wait_for(lambda: plant.worker.loads().get("small:n@1", frozenset({"line-1"})))
    behaviour.load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    behaviour.check_thread = 0
    monkeypatch.setattr(IdleCpuSampler, "has_just_had", look)
    looked.clear()
    plant.worker._prover.ask(small, "a subject")
    assert looked.wait(60)
    assert not behaviour.check_thread
    monkeypatch.setattr(IdleCpuSampler, "sample", sample)
    wait_for(lambda: behaviour.check_thread)


def test_a_preload_waits_until_it_is_resident_or_does_not_fit(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=150)
    a, b, large = runtime.make("a"), runtime.make("b"), runtime.make("large", 200)
    plant.switch(a)
    runtime.behaviours["b"].load_may_end.clear()
    plant.worker.preload(Preload((b, large)))
    assert plant.worker._loads.has_preload()
    runtime.behaviours["b"].load_may_end.set()
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded"})
    wait_for(lambda: not plant.worker._loads.has_preload())


@pytest.mark.skipif(not priorities.can_return(), reason="needs the right to raise a thread's priority")
def test_a_stop_does_not_wait_for_a_proof_at_idle_priority(runtime: DummyRuntime, tmp_path: Path) -> None:
    with ExitStack() as stack:
        plant = start_dummies(stack, runtime.load, tmp_path / "cache")
        small = runtime.make("small")
        plant.prepare(small)
        thread = begin_proof(plant, runtime, small)
        wait_for(lambda: os.sched_getscheduler(thread) == os.SCHED_IDLE)
        stopping = threading.Thread(target=plant.worker.stop)
        stopping.start()
        try:
            wait_for(lambda: os.sched_getscheduler(thread) == os.SCHED_OTHER)
        finally:
            runtime.behaviours["small"].check_may_end.set()
            stopping.join()


def ask(plant: PlantOfDummies, runtime: DummyRuntime, version: ModelVersion) -> None:
    """Ask for a proof of `version`, whose pictures end at once."""
    runtime.behaviours[version.name].check_thread = 0
    plant.worker._prover.ask(version, "a subject")


@pytest.mark.parametrize("serves", [True, False])
def test_pictures_of_a_model_that_serves_keep_their_priority(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch, *, serves: bool
) -> None:
    plant, stable, other = new_dummies(), runtime.make("stable"), runtime.make("other")
    plant.switch(stable)
    plant.prepare(other)
    priorities: list[str] = []

    def lowered(priority: str, **_: object) -> AbstractContextManager[None]:
        priorities.append(priority)
        return nullcontext()

    monkeypatch.setattr("agent.inference.scheduling.load_priority.lowered", lowered)
    ask(plant, runtime, stable if serves else other)
    wait_for(lambda: len(priorities) >= 4)
    assert priorities == ["idle"] * 2 + ["normal" if serves else "idle"] * 2  # begin, hash, two pictures


@pytest.fixture
def gaps(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Have the lines leave no gap for what takes time, until `is_open`.

    `waits` counts the waits for one; `delaying_ns` is what the newest picture needed that may delay frames.
    """
    gaps = {"is_open": False, "waits": 0, "delaying_ns": 0.0}

    def wait(_self: Slack, needed_ns: float, _deadline_ns: int, *, may_delay: bool = False) -> Gap:
        gaps["waits"] += 1
        gaps["delaying_ns"] = needed_ns if may_delay else gaps["delaying_ns"]
        return Gap.FOUND if gaps["is_open"] or may_delay or not needed_ns else Gap.TOO_SHORT

    monkeypatch.setattr(Slack, "wait", wait)
    return gaps


def wait_for_more(gaps: dict[str, Any]) -> None:
    """Wait until the prover has looked for a gap some more times."""
    before = gaps["waits"]
    wait_for(lambda: gaps["waits"] > before + 3)


def test_a_picture_waits_for_a_gap_between_frames(
    new_dummies: NewDummies, runtime: DummyRuntime, gaps: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_prover, "_LATE_EACH_NS", math.inf)
    plant, small = new_dummies(), runtime.make("small")
    plant.switch(small)
    plant.worker._prover._late_ns = 0
    ask(plant, runtime, small)
    wait_for_more(gaps)
    assert not runtime.behaviours["small"].check_thread
    gaps["is_open"] = True
    wait_for(lambda: runtime.behaviours["small"].check_thread)


def test_without_gaps_one_picture_a_minute_makes_a_frame_late(
    new_dummies: NewDummies, runtime: DummyRuntime, gaps: dict[str, Any]
) -> None:
    plant, small = new_dummies(), runtime.make("small")
    plant.switch(small)
    begin_proof(plant, runtime, small)
    behaviour = runtime.behaviours["small"]
    behaviour.check_thread = 0
    behaviour.check_may_end.set()
    wait_for_more(gaps)
    assert not behaviour.check_thread
    plant.worker._prover._late_ns = -math.inf
    wait_for(lambda: behaviour.check_thread)
    assert gaps["delaying_ns"] > 0, "else the gap would not be its own for so long"


@pytest.mark.skipif(not priorities.can_return(), reason="needs the right to raise a thread's priority")
def test_a_picture_at_idle_priority_is_raised_where_its_model_begins_to_serve(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant, stable, other = new_dummies(), runtime.make("stable"), runtime.make("other")
    plant.switch(stable)
    plant.prepare(other)
    thread = begin_proof(plant, runtime, other)
    wait_for(lambda: os.sched_getscheduler(thread) == os.SCHED_IDLE)
    plant.switch(other)
    try:
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
    finally:
        runtime.behaviours["other"].check_may_end.set()


@pytest.mark.skipif(not priorities.can_return(), reason="needs the right to raise a thread's priority")
def test_a_picture_at_idle_priority_is_raised_where_its_model_begins_to_answer_a_comparisons_frames(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant, stable, candidate = new_dummies(), runtime.make("stable"), runtime.make("candidate")
    for behaviour in runtime.behaviours.values():
        behaviour.label = "cap"
    plant.switch(stable)
    plant.prepare(candidate, is_candidate=True)
    thread = begin_proof(plant, runtime, candidate)
    wait_for(lambda: os.sched_getscheduler(thread) == os.SCHED_IDLE)
    plant.send(Compare("line-1", 1, candidate, "canary", 1.0, memory_bytes=64 * MIB))
    plant.wait_until(lambda: bool(plant.of(ComparisonBegan)))
    try:
        assert os.sched_getscheduler(thread) == os.SCHED_OTHER
    finally:
        runtime.behaviours["candidate"].check_may_end.set()


def test_a_proof_ends_where_no_gap_is_given_any_more(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant, small = new_dummies(), runtime.make("small")
    plant.switch(small)
    prover = plant.worker._prover
    prover._slack.stop()
    ask(plant, runtime, small)
    ask(plant, runtime, small)
    wait_for(lambda: not prover._wanted)
    assert not runtime.behaviours["small"].check_thread


def test_golden_files_are_read_before_the_gap_of_their_picture(tmp_path: Path) -> None:
    version = ModelVersion("small", "n", "1", "small.dummy", "aa", golden=str(tmp_path / "nowhere"))
    steps = proof_steps(DummyModel("small", Behaviour(), lambda: None), version)
    assert [next(steps) for _ in range(3)] == [True, True, False]
    with pytest.raises(UnreadableError):
        next(steps)
