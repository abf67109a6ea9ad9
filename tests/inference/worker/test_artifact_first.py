"""Loads that wait for their artifacts, because a runtime that compiles in the worker delays the frames of others."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from inference.worker.dummies import DummyRuntime, PlantOfDummies, wait_for
from msgspec.structs import replace

from agent.inference.backends import Model, NotPreparedError
from agent.inference.preparing.background_builder import ArtifactDiskError, BuildHinderedError
from agent.inference.scheduling import load_priority
from agent.messages.children import Prepare, Prepared, PrepareFailed, SwapFailed
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.processes.scheduling import priorities

NewDummies = Callable[..., PlantOfDummies]
IDLE, BUSY = -1.0, 2.0
Ended = Callable[[ModelError | OutOfMemoryError | None], None]


@dataclass
class Builds:
    """Stands in for the builder: the test ends each preparation."""

    asked: list[tuple[str, Ended, bool]] = field(default_factory=list)
    hastened: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def prepare_first(self, version: ModelVersion, ended: Ended, *, is_patient: bool = False) -> None:
        self.asked.append((version.name, ended, is_patient))

    def hasten(self, version: ModelVersion) -> None:
        self.hastened.append(version.name)

    def leave(self, version: ModelVersion) -> None:
        self.left.append(version.name)


@pytest.fixture
def builds() -> Builds:
    return Builds()


@pytest.fixture
def plant(new_dummies: NewDummies, builds: Builds, monkeypatch: pytest.MonkeyPatch) -> PlantOfDummies:
    """Start a worker on idle cores, whose builder is the test."""
    monkeypatch.setattr(load_priority, "ENOUGH_IDLE", IDLE)
    monkeypatch.setattr(priorities, "can_return", lambda: True)
    plant = new_dummies()
    monkeypatch.setattr(plant.worker._artifacts, "prepare_first", builds.prepare_first)
    monkeypatch.setattr(plant.worker._artifacts, "hasten", builds.hasten)
    monkeypatch.setattr(plant.worker._artifacts, "leave", builds.leave)
    return plant


@pytest.fixture
def graph(runtime: DummyRuntime) -> ModelVersion:
    """Make a model that a runtime could compile."""
    pytest.importorskip("openvino")
    return replace(runtime.make("graph"), backend="openvino")


def announce(
    plant: PlantOfDummies, version: ModelVersion, artifact_s: float = 600.0, hold_s: float = 600.0, number: int = 0
) -> int:
    number = 1000 + (number or len(plant.messages))
    plant.send(Prepare("line-1", number, version, hold_s, artifact_s))
    return number


def announced(plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, version: ModelVersion) -> int:
    """Announce a model beside one that serves, and wait until its artifact is asked for."""
    plant.switch(runtime.make("serving"))
    number = announce(plant, version)
    wait_for(lambda: builds.asked)
    return number


def test_the_artifact_is_made_before_the_load_at_the_lowest_priority(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, graph: ModelVersion
) -> None:
    number = announced(plant, builds, runtime, graph)
    ((name, ended, is_patient),) = builds.asked
    assert (name, is_patient) == ("graph", True)
    assert runtime.loads == ["serving"]
    ended(None)
    assert isinstance(plant.outcome(number), Prepared)
    assert runtime.loads == ["serving", "graph"]


def test_beside_cores_without_idle_time_it_is_made_at_a_priority_that_does_not_starve(
    plant: PlantOfDummies,
    builds: Builds,
    runtime: DummyRuntime,
    graph: ModelVersion,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant.switch(runtime.make("serving"))
    monkeypatch.setattr(load_priority, "ENOUGH_IDLE", BUSY)
    announce(plant, graph)
    wait_for(lambda: builds.asked)
    assert not builds.asked[0][2]


@pytest.mark.parametrize(
    ("error", "reason", "may_fit"),
    [
        (ModelError("proof_failed", "it answers otherwise"), "proof_failed", False),
        (BuildHinderedError("the process was killed"), "no_memory", True),
    ],
)
def test_a_preparation_that_fails_is_the_answer(  # noqa: PLR0913, PLR0917 - fixtures
    plant: PlantOfDummies,
    builds: Builds,
    runtime: DummyRuntime,
    graph: ModelVersion,
    error: ModelError | OutOfMemoryError,
    reason: str,
    *,
    may_fit: bool,
) -> None:
    number = announced(plant, builds, runtime, graph)
    builds.asked[0][1](error)
    outcome = plant.outcome(number)
    assert isinstance(outcome, PrepareFailed)
    assert (outcome.reason, outcome.detail, outcome.may_fit) == (reason, str(error), may_fit)
    assert runtime.loads == ["serving"]


def test_an_artifact_that_no_disk_can_keep_costs_nothing_but_itself(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, graph: ModelVersion
) -> None:
    number = announced(plant, builds, runtime, graph)
    builds.asked[0][1](ArtifactDiskError("the disk is full"))
    assert isinstance(plant.outcome(number), Prepared)
    assert runtime.loads == ["serving", "graph"]
    assert len(builds.asked) == 1


def test_a_line_that_needs_the_model_meanwhile_does_not_wait_for_the_artifact(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, graph: ModelVersion
) -> None:
    number = announced(plant, builds, runtime, graph)
    plant.switch(graph)
    assert isinstance(plant.outcome(number), Prepared)
    builds.asked[0][1](ModelError("load_failed", "too late to matter"))
    plant.switch(runtime.make("other"))
    assert runtime.loads == ["serving", "graph", "other"]
    assert not plant.of(SwapFailed)
    assert not builds.hastened
    assert builds.left == ["graph"]


def test_a_build_whose_load_nobody_wants_any_more_is_left(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime
) -> None:
    pytest.importorskip("openvino")
    numbers = []
    for index in range(1, 10):
        numbers.append(announce(plant, replace(runtime.make(f"graph-{index}"), backend="openvino"), number=index))
        wait_for(lambda: len(builds.asked) == len(numbers))
    outcome = plant.outcome(numbers[0])
    assert isinstance(outcome, PrepareFailed)
    assert outcome.reason == "superseded"
    assert builds.left == ["graph-1"]
    assert "graph-1:n@1" not in plant.worker._loads.waiting()


def test_a_line_that_announces_it_for_soon_does_not_wait_either(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, graph: ModelVersion
) -> None:
    first = announce(plant, graph)
    wait_for(lambda: builds.asked)
    assert isinstance(plant.outcome(plant.announce(graph)), Prepared)
    assert isinstance(plant.outcome(first), Prepared)
    assert runtime.loads == ["graph"]


def test_a_checkpoint_that_a_line_announces_for_soon_is_made_with_haste(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, load, errors = runtime.make("checkpoint"), plant.worker._load_model, [NotPreparedError("no artifact")]

    def load_or_fail(version: ModelVersion, compute: str, cache_dir: Path) -> Model:
        if errors:
            raise errors.pop(0)
        return load(version, compute, cache_dir)

    monkeypatch.setattr(plant.worker, "_load_model", load_or_fail)
    announce(plant, version)
    wait_for(lambda: builds.asked)
    announce(plant, version)
    number = announce(plant, version, artifact_s=0.0, number=500)
    wait_for(lambda: builds.hastened)
    assert builds.hastened == ["checkpoint"]
    builds.asked[0][1](None)
    assert isinstance(plant.outcome(number), Prepared)


def test_an_artifact_that_takes_too_long_is_not_waited_for(
    plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime, graph: ModelVersion
) -> None:
    number = announce(plant, graph, artifact_s=0.5)
    assert isinstance(plant.outcome(number), Prepared)
    assert len(builds.asked) <= 1
    assert runtime.loads == ["graph"]


def test_the_time_for_which_a_model_is_held_begins_when_it_could_be_loaded(
    plant: PlantOfDummies, builds: Builds, graph: ModelVersion
) -> None:
    hold_s = 3.0
    number = announce(plant, graph, hold_s=hold_s)
    wait_for(lambda: builds.asked)
    began_s = time.monotonic()
    wait_for(lambda: time.monotonic() > began_s + hold_s)
    assert not plant.of(PrepareFailed)
    builds.asked[0][1](None)
    assert isinstance(plant.outcome(number), Prepared)
    plant.wait_for_ledger({"graph:n@1": "resident"})


def test_what_has_no_artifact_is_loaded_at_once(plant: PlantOfDummies, builds: Builds, runtime: DummyRuntime) -> None:
    assert isinstance(plant.outcome(announce(plant, runtime.make("plain"))), Prepared)
    assert not builds.asked
