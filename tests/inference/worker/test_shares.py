"""A worker that is one of several: it borrows before a load, gives back, and uses no more than is guaranteed to it."""

import importlib
import threading
from collections.abc import Callable
from types import ModuleType

import pytest
from inference.worker.dummies import MIB, Behaviour, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import DEADLINE_S, decisions

from agent.inference.memory import runtime_overhead, unloader
from agent.inference.memory.footprints import Footprints
from agent.inference.scheduling import load_priority
from agent.inference.swapping import budget_share
from agent.messages.children import CacheState, MemoryKept, MemoryLimit, Preload, SwapFailed, Swapped
from agent.messages.errors import ModelError
from agent.messages.groups.memory_share import Share, ShareAsked, ShareHeld, ShareRecalled
from agent.messages.references import ModelVersion

NewDummies = Callable[..., PlantOfDummies]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}


def lend(plant: PlantOfDummies, limit_mib: int, number: int = 1) -> ShareAsked:
    """Wait for the worker's request of this number, and answer it as control does."""
    plant.wait_until(lambda: any(one.number == number for one in plant.of(ShareAsked)))
    plant.worker.share(Share(number, MemoryLimit(limit_mib * MIB)))
    return next(one for one in plant.of(ShareAsked) if one.number == number)


def recall(plant: PlantOfDummies, limit_mib: int, *, evict: bool) -> int:
    """Recall memory as control does; return the MiB that the worker then keeps to."""
    number = 1000 + len(plant.of(ShareHeld))
    plant.worker.share(ShareRecalled(number, MemoryLimit(limit_mib * MIB), evict))
    plant.wait_until(lambda: any(one.number == number for one in plant.of(ShareHeld)))
    return next(one.limit.host_bytes for one in plant.of(ShareHeld) if one.number == number) // MIB


def switch(plant: PlantOfDummies, version: ModelVersion, lent_mib: int, line: str = "line-1") -> Swapped | SwapFailed:
    """Change over with the memory that control then has to lend."""
    change, number = plant.assign(version, line), len(plant.of(ShareAsked)) + 1
    lend(plant, lent_mib, number)
    return plant.answer(change)


def test_it_borrows_before_it_evicts_or_breaks(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    assert not plant.of(ShareAsked), "nobody is asked for what is there"
    swapped = switch(plant, b, 150)
    assert isinstance(swapped, Swapped)
    assert swapped.report.order == "make-before-break"
    plant.wait_for_ledger({"a:n@1": "resident", "b:n@1": "active"})
    asked = plant.of(ShareAsked)[0]
    assert (asked.limit.host_bytes, asked.is_requested) == (120 * MIB, True)
    assert plant.of(CacheState)[-1].budget_bytes == 150 * MIB


def test_without_anything_to_borrow_it_does_as_it_would_alone(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    change = plant.assign(b)
    lend(plant, 100)
    swapped = plant.answer(change)
    assert isinstance(swapped, Swapped)
    assert swapped.report.order == "break-before-make"
    plant.wait_for_ledger({"b:n@1": "active"})


def test_what_is_recalled_is_evicted_but_for_what_is_in_use(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    switch(plant, b, 150)
    plant.wait_for_ledger({"a:n@1": "resident", "b:n@1": "active"})
    assert recall(plant, 50, evict=False) == 120, "what is loaded stays, unless it shall be evicted"
    assert not decisions(plant)
    assert recall(plant, 50, evict=True) == 60
    assert plant.resident() == {"b:n@1": "active"}
    assert [(one.verdict, one.model) for one in decisions(plant)] == [("evicted", "a:n@1")]
    assert plant.detect().model == "b:n@1"


def test_borrowed_memory_serves_no_line(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a, "line-1")
    refused = switch(plant, b, 200, "line-2")
    assert isinstance(refused, SwapFailed)
    assert refused.reason == "no_memory"
    assert runtime.loads == ["a"]
    assert plant.detect().model == "a:n@1"


def test_nor_does_a_standby_model_in_it(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a, "line-1")
    switch(plant, b, 150, "line-1")
    plant.wait_for_ledger({"a:n@1": "resident", "b:n@1": "active"})
    refused = plant.answer(plant.assign(a, "line-2"))
    assert isinstance(refused, SwapFailed)
    assert refused.reason == "no_memory"
    outcome = plant.outcome(plant.announce(a, "line-2"))
    assert getattr(outcome, "reason", None) == "no_memory"
    assert plant.switch(a, "line-1").report.residency == "resident", "the line leaves the other for it"


def test_a_guess_borrows_too_and_says_that_it_is_one(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_priority, "ENOUGH_IDLE", -1.0)
    plant = new_dummies(budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    plant.worker.preload(Preload((b,)))
    assert not lend(plant, 150).is_requested
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded"})
    assert recall(plant, 100, evict=True) == 100
    assert plant.resident() == {"a:n@1": "active"}


def test_a_recall_ends_a_wait_for_memory(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100, guaranteed_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    change = plant.assign(b)
    plant.wait_until(lambda: bool(plant.of(ShareAsked)))
    plant.worker.share(ShareRecalled(7, MemoryLimit(60 * MIB), evict=True))
    swapped = plant.answer(change)
    assert isinstance(swapped, Swapped)
    assert swapped.report.order == "break-before-make"
    plant.wait_until(lambda: [one.number for one in plant.of(ShareHeld)] == [7])
    wait_for(lambda: plant.of(CacheState)[-1].used_bytes == 60 * MIB)


def test_a_recall_does_not_wait_for_a_load_that_hangs(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget_share, "_BESIDE_S", 0.2)
    plant = new_dummies(budget_mib=200, guaranteed_mib=120)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    plant.switch(b)
    plant.wait_for_ledger({"a:n@1": "resident", "b:n@1": "active"})
    runtime.behaviours["c"].load_may_end.clear()
    change = plant.assign(c)
    assert runtime.behaviours["c"].load_began.wait(DEADLINE_S)
    plant.worker.share(ShareRecalled(7, MemoryLimit(100 * MIB), evict=True))
    plant.wait_until(lambda: [one.number for one in plant.of(ShareHeld)] == [7])
    assert plant.of(ShareHeld)[0].limit.host_bytes == 120 * MIB
    assert plant.resident() == {"b:n@1": "active", "c:n@1": "loading"}
    assert plant.detect().model == "b:n@1"
    runtime.behaviours["c"].load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    plant.wait_for_ledger({"b:n@1": "resident", "c:n@1": "active"})
    sizes = {one.model: one.bytes // MIB for one in plant.of(CacheState)[-1].models}
    assert sizes == {"b:n@1": 60, "c:n@1": 60}, "what was evicted meanwhile is not taken off the load's size"
    assert not plant.of(MemoryKept)


def _import_hangs(may_end: threading.Event, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour) -> None:
    del behaviour
    import_module = importlib.import_module

    def hang(name: str, package: str | None = None) -> ModuleType:
        assert name != "agent.inference.backends.dummy" or may_end.wait(DEADLINE_S)
        return import_module(name, package)

    monkeypatch.setattr(importlib, "import_module", hang)


def _load_hangs(may_end: threading.Event, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour) -> None:
    del monkeypatch
    behaviour.load_may_end = may_end


def _record_hangs(may_end: threading.Event, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour) -> None:
    del behaviour
    monkeypatch.setattr(Footprints, "remember", lambda *_: may_end.wait(DEADLINE_S))


def _close_hangs(may_end: threading.Event, monkeypatch: pytest.MonkeyPatch, behaviour: Behaviour) -> None:
    del monkeypatch
    behaviour.proof_error, behaviour.close_may_end = ModelError("proof_failed", "for a test"), may_end


@pytest.mark.parametrize("hangs_at", [_import_hangs, _load_hangs, _record_hangs, _close_hangs])
def test_a_load_that_hangs_for_ever_is_told_as_memory_that_does_not_come_back(
    new_dummies: NewDummies,
    runtime: DummyRuntime,
    monkeypatch: pytest.MonkeyPatch,
    hangs_at: Callable[[threading.Event, pytest.MonkeyPatch, Behaviour], None],
) -> None:
    may_end = threading.Event()
    monkeypatch.setattr(unloader, "_HANGING_S", 0.1)
    plant = new_dummies(budget_mib=200, guaranteed_mib=120, load_timeout_s=1.0)
    hangs = runtime.make("hangs")
    hangs_at(may_end, monkeypatch, runtime.behaviours["hangs"])
    assert plant.refusal(hangs).reason == "load_timeout"
    plant.wait_until(lambda: plant.of(MemoryKept)[-1:] == [MemoryKept(60 * MIB, ("hangs:n@1",))])
    may_end.set()
    plant.wait_until(lambda: plant.of(MemoryKept)[-1] == MemoryKept(0, ()))
    assert not plant.resident()


def test_a_close_that_hangs_for_ever_is_told_as_memory_that_does_not_come_back(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloader, "_HANGING_S", 0.1)
    plant = new_dummies(budget_mib=130, guaranteed_mib=130, load_timeout_s=1.0)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    plant.switch(b)
    plant.wait_for_ledger({"a:n@1": "resident", "b:n@1": "active"})
    runtime.behaviours["a"].close_may_end.clear()
    assert plant.refusal(c).reason == "load_timeout"
    plant.wait_until(lambda: plant.of(MemoryKept)[-1:] == [MemoryKept(60 * MIB, ("a:n@1",))])
    assert plant.detect().model == "b:n@1"
    runtime.behaviours["a"].close_may_end.set()
    plant.wait_until(lambda: plant.of(MemoryKept)[-1] == MemoryKept(0, ()))


def test_beside_a_load_that_hangs_for_ever_missing_memory_is_looked_for_again(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unloader, "_HANGING_S", 0.1)
    monkeypatch.setattr(runtime_overhead, "RUNTIMES_OWN_BYTES", 0)
    plant = new_dummies(budget_mib=400, load_timeout_s=1.0)
    a, b, hangs = runtime.make("a"), runtime.make("b"), runtime.make("hangs")
    plant.switch(a)
    runtime.behaviours["a"].leaks = True
    plant.switch(b)
    plant.worker.preload(Preload((), (a,)))
    plant.wait_until(lambda: plant.of(MemoryKept)[-1:] == [MemoryKept(60 * MIB, ("a:n@1",))])
    runtime.behaviours["hangs"].load_may_end.clear()
    change = plant.assign(hangs)
    assert runtime.behaviours["hangs"].load_began.wait(DEADLINE_S)
    runtime.held_bytes += 20 * MIB  # of the 60 that are predicted, so a's have not come back
    assert isinstance(plant.answer(change), SwapFailed)
    plant.wait_until(lambda: plant.of(MemoryKept)[-1] == MemoryKept(120 * MIB, ("a:n@1", "hangs:n@1")))
    runtime.held_bytes -= 60 * MIB
    plant.wait_until(lambda: plant.of(MemoryKept)[-1] == MemoryKept(60 * MIB, ("hangs:n@1",)))
    runtime.held_bytes -= 20 * MIB
    runtime.behaviours["hangs"].load_may_end.set()
    plant.wait_until(lambda: plant.of(MemoryKept)[-1] == MemoryKept(0, ()))
