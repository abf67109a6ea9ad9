"""A runtime's own bytes are not charged to a model whose bytes are known."""

from collections.abc import Callable
from pathlib import Path

from inference.worker.dummies import MIB, DummyRuntime, PlantOfDummies

from agent.inference.memory.footprints import Footprints
from agent.messages.children import CacheState, Log
from agent.messages.references import ModelVersion

NewDummies = Callable[..., PlantOfDummies]


def charged_mib(plant: PlantOfDummies, version: ModelVersion) -> int:
    rows = plant.of(CacheState)[-1].models
    return next(row.bytes for row in rows if row.model == version.reference) // MIB


def final_after_a_release(plant: PlantOfDummies, runtime: DummyRuntime) -> ModelVersion:
    """Have `model` loaded and released, so that its bytes are known."""
    model, *others = (runtime.make(name) for name in ("model", "one", "two"))
    for version in (model, *others):
        plant.switch(version)
        plant.cost_the_same()  # or how long each load took today would decide who leaves
    plant.wait_until(lambda: model.reference not in plant.resident())
    return model


def test_what_came_back_is_remembered_as_final(new_dummies: NewDummies, runtime: DummyRuntime, tmp_path: Path) -> None:
    model = final_after_a_release(new_dummies(budget_mib=130), runtime)
    footprints = Footprints(tmp_path / "cache")
    footprints.read()
    known = footprints.known(f"{model.sha256}/dummy/cpu/own")
    assert known is not None
    assert (known.bytes, known.is_final) == (60 * MIB, True)


def test_a_runtime_that_brings_little_makes_its_first_model_no_smaller(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    runtime.brings_bytes = 20 * MIB
    plant = new_dummies(budget_mib=130)
    model = final_after_a_release(plant, runtime)
    plant.switch(model)
    assert charged_mib(plant, model) == 60


def test_a_model_that_was_seen_to_take_less_than_its_file_is_charged_that(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=500)
    model, *others = (runtime.make(name, size_mib) for name, size_mib in (("model", 444), ("one", 400), ("two", 440)))
    runtime.behaviours["model"].grows_bytes = 4 * MIB
    plant.switch(model)
    assert charged_mib(plant, model) == 74, "its file's size, until more is known"
    for version in others:
        plant.switch(version)
    plant.wait_until(lambda: model.reference not in plant.resident())
    plant.switch(model)
    assert charged_mib(plant, model) == 4


def test_kernels_of_a_later_load_are_the_runtimes(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=130)
    model = final_after_a_release(plant, runtime)
    runtime.behaviours["model"].grows_bytes = 80 * MIB
    plant.switch(model)
    assert charged_mib(plant, model) == 60


def test_what_is_more_than_a_runtime_may_keep_is_the_models(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=200)
    model, *others = (runtime.make(name) for name in ("model", "one", "two", "three"))
    for version in (model, *others):
        plant.cost_the_same(model=1.0)  # so that it goes, however long each load took
        plant.switch(version)
        plant.cost_the_same()  # or how long each load took today would decide who leaves
    plant.wait_until(lambda: model.reference not in plant.resident())
    runtime.behaviours["model"].grows_bytes = 180 * MIB
    plant.switch(model)
    assert charged_mib(plant, model) == 180
    assert not [log for log in plant.of(Log) if "not given back" in log.text]
