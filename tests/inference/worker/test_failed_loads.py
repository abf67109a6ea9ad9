"""Loads that end in an odd way: nothing of them stays, and nothing goes for them in vain."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from inference.worker.dummies import MIB, Behaviour, DummyModel, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import decisions, offer
from support.gpu_hosts import CUDA_12, Driver, gpu_wheel, host

from agent.inference.backends import FellBackError, Model, NotPreparedError
from agent.inference.backends.errors import ProcessorError
from agent.inference.memory import process_memory
from agent.inference.memory.admission import AdmissionController
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.processors import compute
from agent.messages.children import Breaking, CacheState, Log, ModelRuns, SwapFailed, Swapped
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

NewDummies = Callable[..., PlantOfDummies]


def test_bytes_in_the_frames_of_a_failure_come_back_at_once(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=400)
    good, bad = runtime.make("good"), runtime.make("bad", 120)
    plant.switch(good)
    behaviour = runtime.behaviours["bad"]
    behaviour.load_error, behaviour.hoards_bytes = ModelError("load_failed", "no"), 300 * MIB
    assert plant.refusal(bad).reason == "load_failed"
    plant.wait_for_ledger({"good:n@1": "active"})
    assert runtime.held_bytes == 60 * MIB
    assert not plant.of(Log), "nothing was missed for a while"


def test_a_runtime_whose_import_fails_in_its_own_way_charges_nothing_for_ever(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> object:
        raise ValueError(name)

    monkeypatch.setattr("agent.inference.swapping.model_loading.importlib.import_module", fail)
    plant = new_dummies()
    plant.switch(runtime.make("a"))
    plant.wait_for_ledger({"a:n@1": "active"})


def test_a_load_that_breaks_after_its_proof_leaves_nothing(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("too many open files")

    plant = new_dummies()
    good, odd = runtime.make("good"), runtime.make("odd")
    plant.switch(good)
    with monkeypatch.context() as broken:
        broken.setattr(AdmissionController, "require_fit", fail)
        assert plant.refusal(odd).reason == "load_failed"
    plant.wait_for_ledger({"good:n@1": "active"})
    assert runtime.held_bytes == 60 * MIB
    plant.switch(odd)


def test_a_load_that_breaks_before_its_model_is_there_gives_its_charge_back(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = iter([OSError("too many open files")])

    def fail_once() -> None:
        for error in failures:
            raise error

    plant = new_dummies()
    good, odd = runtime.make("good"), runtime.make("odd")
    plant.switch(good)
    with monkeypatch.context() as broken:
        broken.setattr(process_memory, "trim", fail_once)
        assert plant.refusal(odd).reason == "load_failed"
    plant.wait_for_ledger({"good:n@1": "active"})
    assert not plant.of(Log), "no byte was missed"
    plant.switch(odd)


def test_a_file_that_is_replaced_while_it_is_loaded_is_refused(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    good, other = runtime.make("good"), runtime.make("other")
    plant.switch(good)
    behaviour = runtime.behaviours["other"]
    behaviour.load_may_end.clear()
    change = plant.assign(other)
    assert behaviour.load_began.wait(60)
    Path(other.path).write_bytes(b"not what was hashed")
    behaviour.load_may_end.set()
    answer = plant.answer(change)
    assert isinstance(answer, SwapFailed)
    assert (answer.reason, answer.active) == ("hash_mismatch", "good:n@1")
    plant.wait_for_ledger({"good:n@1": "active"})


def test_a_line_that_is_overtaken_while_it_leaves_costs_nobody_a_model(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=100)
    spare, serving, large = runtime.make("spare", 30), runtime.make("serving"), runtime.make("large", 90)
    plant.switch(spare)
    plant.switch(serving)
    behaviour = runtime.behaviours["serving"]
    behaviour.answer_may_end.clear()
    offer(plant.writers["cam-1"])
    assert behaviour.answers_begun.acquire(timeout=60)
    overtaken = plant.assign(large)
    plant.wait_until(lambda: bool(plant.of(Breaking)))
    newest = plant.assign(spare)
    behaviour.answer_may_end.set()
    assert isinstance(plant.answer(overtaken), SwapFailed)
    answer = plant.answer(newest)
    assert isinstance(answer, Swapped)
    assert answer.report.residency == "resident"
    wait_for(lambda: not plant.worker.loads())
    assert not decisions(plant)
    plant.wait_for_ledger({"spare:n@1": "active", "serving:n@1": "resident"})


def test_what_only_a_guess_refuses_is_prepared_so_that_the_next_guess_is_better(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(BackgroundBuilder, "ask", lambda _, version: asked.append(version.name))
    plant = new_dummies(budget_mib=100)
    plant.switch(runtime.make("first", 10))
    guessed, measured = runtime.make("guessed", 120), runtime.make("measured", 60)
    refusal = plant.refusal(guessed)
    assert "guessed:n@1 is predicted to take" in refusal.detail
    assert asked == ["first", "guessed"]
    runtime.behaviours["measured"].grows_bytes = 130 * MIB
    assert "measured:n@1 takes" in plant.refusal(measured).detail
    plant.refusal(measured)
    assert asked == ["first", "guessed", "measured"], "once at its load; what was measured is no guess"


def test_a_footprint_belongs_to_the_backend_that_serves_on_the_device(
    new_dummies: NewDummies,
    runtime: DummyRuntime,
    make_version: Callable[..., ModelVersion],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compute, "host", host(Driver(), CUDA_12, gpu_wheel(tmp_path)))
    runtime.behaviours["a"] = Behaviour()
    new_dummies(compute="cuda:0").switch(make_version("a"))
    assert "/onnxruntime/cuda:0/" in (tmp_path / "cache" / "footprints.json").read_text()


def test_a_load_goes_on_with_the_cpu_where_the_gpu_that_auto_chose_did_not_start(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, model = new_dummies(compute="auto"), runtime.make("a")
    behaviour, load = runtime.behaviours["a"], runtime.load

    def load_once_without(*arguments: Any) -> object:  # noqa: ANN401 - as `load`
        fell_back = FellBackError(ProcessorError("a:n@1", "cuda:0", ["no cuDNN"]))
        behaviour.load_error = None if runtime.loads else fell_back
        return load(*arguments)

    monkeypatch.setattr(plant.worker, "_load_model", load_once_without)
    plant.switch(model)
    assert runtime.loads == ["a", "a"]
    assert not plant.of(SwapFailed)


def test_what_a_model_runs_on_is_told_before_it_is_resident(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    plant.switch(runtime.make("a"))
    assert plant.of(ModelRuns) == [ModelRuns("a:n@1", DummyModel.processor, DummyModel.reading)]
    told = [one for one in plant.messages if isinstance(one, ModelRuns | CacheState)]
    first = next(number for number, one in enumerate(told) if isinstance(one, ModelRuns))
    states = [[model.state for model in one.models] for one in told[:first] if isinstance(one, CacheState)]
    assert all(state == "loading" for row in states for state in row)


def test_a_checkpoint_that_fell_back_is_prepared_once_more_for_the_cpu(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant, version = new_dummies(), runtime.make("cap")
    errors: list[ModelError] = [
        NotPreparedError("no graph for the GPU"),
        FellBackError(ProcessorError("cap", "cuda:0", ["no CUDA that starts"])),
        NotPreparedError("no artifact for the CPU"),
    ]
    prepared: list[str] = []
    load = plant.worker._load_model

    def prepare_first(version: ModelVersion, ended: Callable[[None], None], *, is_patient: bool) -> None:
        assert not is_patient
        prepared.append(version.name)
        threading.Thread(target=ended, args=(None,)).start()

    def load_or_fail(version: ModelVersion, compute: str, cache_dir: Path) -> Model:
        if errors:
            raise errors.pop(0)
        return load(version, compute, cache_dir)

    monkeypatch.setattr(plant.worker._artifacts, "prepare_first", prepare_first)
    monkeypatch.setattr(plant.worker, "_load_model", load_or_fail)
    plant.switch(version)
    assert prepared == ["cap", "cap"]
