"""Models that are likely next: loaded while nothing else is to be done, into free memory, at nobody's price."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from inference.worker.dummies import MIB, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import decisions

from agent.inference.backends import Model, NotPreparedError
from agent.inference.memory.cache import Cache
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.scheduling import load_priority
from agent.inference.swapping import likely_models, load_queue
from agent.inference.swapping.likely_models import LikelyModels
from agent.inference.swapping.load_job import LoadJob
from agent.messages.children import Breaking, CacheState, Log, Preload, Prepared, SwapFailed, Swapped
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

NewDummies = Callable[..., PlantOfDummies]
IDLE, BUSY = -1.0, 2.0


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Have cores idle, until a test says otherwise."""
    monkeypatch.setattr(load_priority, "ENOUGH_IDLE", IDLE)
    return lambda share: monkeypatch.setattr(load_priority, "ENOUGH_IDLE", share)


def tell(plant: PlantOfDummies, *versions: ModelVersion) -> None:
    plant.worker.preload(Preload(versions))


def warnings(plant: PlantOfDummies) -> list[str]:
    return [one.text for one in plant.of(Log) if "preloaded" in one.text]


def test_what_fits_comes_in_in_its_order_and_nothing_goes_for_it(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=300)
    a, b, c, large, d = (*(runtime.make(name) for name in "abc"), runtime.make("large", 200), runtime.make("d"))
    plant.switch(b)
    plant.switch(a)
    tell(plant, large, c, a, b, d)
    expected = {"a:n@1": "active", "b:n@1": "resident", "c:n@1": "preloaded", "d:n@1": "preloaded"}
    plant.wait_for_ledger(expected)
    assert runtime.loads == ["b", "a", "c", "d"]
    assert not decisions(plant), "nothing was evicted, and a preload that does not fit is not worth a word"
    assert all(state.used_bytes <= state.budget_bytes for state in plant.of(CacheState))
    assert not warnings(plant)


def test_a_preloaded_model_is_a_resident_one_and_standby_once_it_has_served(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    tell(plant, a, b)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded"})
    assert plant.switch(b).report.residency == "resident"
    plant.switch(a)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "resident"})


def test_preloaded_models_go_first_and_only_for_what_is_asked_for(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=260)
    a, b, c, d, e = (runtime.make(name) for name in "abcde")
    plant.switch(b)
    plant.switch(a)
    tell(plant, c, d)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "resident", "c:n@1": "preloaded", "d:n@1": "preloaded"})
    tell(plant)
    plant.cost_the_same(1000.0, b=1.0)
    assert isinstance(plant.prepare(e), Prepared)
    gone = decisions(plant)[-1]
    assert (gone.reason, gone.wanted) == ("announced", "e:n@1")
    assert gone.model in {"c:n@1", "d:n@1"}, "although b would be loaded again in no time"


def test_an_announced_model_is_reserved_and_no_longer_a_guess(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    tell(plant, b)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded"})
    plant.prepare(b, hold_s=1.0)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "reserved"})
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "resident"})


@pytest.mark.parametrize("is_announced", [False, True])
def test_an_order_overtakes_an_idle_preload_whose_bytes_come_back(
    new_dummies: NewDummies, runtime: DummyRuntime, *, is_announced: bool
) -> None:
    plant = new_dummies(budget_mib=130)
    a, guess, wanted = (runtime.make(name) for name in ("a", "guess", "wanted"))
    plant.switch(a)
    runtime.behaviours["guess"].load_may_end.clear()
    tell(plant, guess)
    assert runtime.behaviours["guess"].load_began.wait(60)
    number = plant.announce(wanted) if is_announced else plant.assign(wanted)
    wait_for(lambda: "wanted:n@1" in plant.worker.loads())
    tell(plant)
    runtime.behaviours["guess"].load_may_end.set()
    assert isinstance(plant.outcome(number) if is_announced else plant.answer(number), Prepared | Swapped)
    plant.wait_until(lambda: "guess:n@1" not in plant.resident())
    assert runtime.held_bytes == 2 * 60 * MIB
    assert not warnings(plant)


def test_an_idle_preload_that_a_line_asks_for_is_gone_on_with(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    runtime.behaviours["b"].load_may_end.clear()
    tell(plant, b)
    assert runtime.behaviours["b"].load_began.wait(60)
    change = plant.assign(b)
    wait_for(lambda: plant.worker.loads().get("b:n@1"))
    runtime.behaviours["b"].load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert runtime.loads == ["a", "b"]


def test_an_order_does_not_wait_for_an_idle_preload_that_hangs(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_queue, "_OVERTAKEN_S", 0.2)
    plant = new_dummies(budget_mib=300)
    a, stuck, wanted, other = (runtime.make(name) for name in ("a", "stuck", "wanted", "other"))
    plant.switch(a)
    runtime.behaviours["stuck"].load_may_end.clear()
    tell(plant, stuck, other)
    assert runtime.behaviours["stuck"].load_began.wait(60)
    plant.switch(wanted)
    refusal = plant.refusal(stuck)
    assert (refusal.reason, refusal.active) == ("load_timeout", "wanted:n@1")
    assert any("within 0.2 s after an order overtook it; its thread is left" in log.text for log in plant.of(Log))
    assert plant.resident()["stuck:n@1"] == "loading", "its bytes stay charged, and nothing is preloaded beside it"
    assert "other" not in runtime.loads
    runtime.behaviours["stuck"].load_may_end.set()
    plant.wait_until(lambda: plant.resident().get("other:n@1") == "preloaded")
    assert runtime.loads.count("stuck") == 1


def test_an_order_gets_the_room_of_an_idle_preload_that_was_left_behind(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_queue, "_OVERTAKEN_S", 0.2)
    plant = new_dummies(lines={"cam-1": "line-1", "cam-2": "line-2"}, budget_mib=130)
    a, slow, wanted = (runtime.make(name) for name in ("a", "slow", "wanted"))
    plant.switch(a)
    runtime.behaviours["slow"].load_may_end.clear()
    tell(plant, slow)
    assert runtime.behaviours["slow"].load_began.wait(60)
    change = plant.assign(wanted, "line-2")
    plant.wait_until(lambda: any(one.reason == "in_use" for one in decisions(plant)))
    runtime.behaviours["slow"].load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert runtime.held_bytes == 2 * 60 * MIB


def test_a_worker_that_stops_does_not_wait_for_an_idle_preload_to_get_idle_time(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_queue, "_OVERTAKEN_S", 600.0)
    plant = new_dummies(load_timeout_s=1200)
    a, guess = runtime.make("a"), runtime.make("guess")
    plant.switch(a)
    runtime.behaviours["guess"].load_may_end.clear()
    tell(plant, guess)
    assert runtime.behaviours["guess"].load_began.wait(60)
    raised: list[bool] = []
    monkeypatch.setattr(load_priority, "restore_normal", lambda: raised.append("guess:n@1" in plant.worker.loads()))
    stopping = threading.Thread(target=plant.worker.stop)
    stopping.start()
    wait_for(lambda: raised)
    runtime.behaviours["guess"].load_may_end.set()
    stopping.join()
    assert raised[0], "its step runs on at idle priority"


def test_a_preload_that_fails_is_told_once_and_not_retried_in_a_loop(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely_models, "_FIRST_S", 0.01)
    monkeypatch.setattr(likely_models, "_LONGEST_S", 0.5)
    plant = new_dummies()
    a, bad, good = (runtime.make(name) for name in ("a", "bad", "good"))
    runtime.behaviours["bad"].load_error = ModelError("load_failed", "no such layer")
    plant.switch(a)
    tell(plant, bad, good)
    plant.wait_until(lambda: plant.resident().get("good:n@1") == "preloaded")
    wait_for(lambda: runtime.loads.count("bad") > 2)
    assert warnings(plant) == ["bad:n@1 could not be preloaded: no such layer"]
    assert not decisions(plant)
    runtime.behaviours["bad"].load_error = None
    plant.wait_until(lambda: plant.resident().get("bad:n@1") == "preloaded")


def test_a_model_whose_proof_failed_is_preloaded_again_only_once_its_files_changed(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely_models, "_FIRST_S", 0.01)
    monkeypatch.setattr(likely_models, "_LOOK_S", 0.05)
    plant = new_dummies()
    a, bad = runtime.make("a"), runtime.make("bad")
    runtime.behaviours["bad"].proof_error = ModelError("proof_failed", "nonsense")
    plant.switch(a)
    tell(plant, bad)
    plant.wait_until(lambda: bool(warnings(plant)))
    runtime.behaviours["bad"].proof_error = None
    tell(plant, a, bad)
    plant.prepare(a, hold_s=1.0)
    plant.wait_for_ledger({"a:n@1": "active"})
    assert runtime.loads == ["a", "bad"]
    Path(bad.path).touch()
    plant.wait_for_ledger({"a:n@1": "active", "bad:n@1": "preloaded"})


def test_a_line_whose_load_failed_keeps_preloads_from_trying_it_at_once(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    a, bad, good = (runtime.make(name) for name in ("a", "bad", "good"))
    runtime.behaviours["bad"].load_error = ModelError("load_failed", "no such layer")
    plant.switch(a)
    tell(plant, a, bad)
    wait_for(lambda: "bad" in runtime.loads)
    assert plant.refusal(bad).reason == "load_failed"
    tell(plant, bad, good)
    plant.wait_until(lambda: plant.resident().get("good:n@1") == "preloaded")
    assert runtime.loads.count("bad") <= 2


def test_nothing_is_preloaded_while_cores_are_busy_or_something_is_prepared(
    new_dummies: NewDummies,
    runtime: DummyRuntime,
    cores: Callable[[float], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores(BUSY)
    plant = new_dummies()
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    tell(plant, b)
    looks = threading.Semaphore(0)

    def is_preparing(_builder: BackgroundBuilder) -> bool:
        looks.release()
        return True

    with monkeypatch.context() as patch:
        patch.setattr(BackgroundBuilder, "is_preparing", property(is_preparing))
        cores(IDLE)
        for _ in range(3):
            assert looks.acquire(timeout=60)
        assert runtime.loads == ["a"]
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded"})


def test_a_checkpoint_is_prepared_in_the_background_first(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(likely_models, "_FIRST_S", 0.01)
    asked: list[ModelVersion] = []
    monkeypatch.setattr(BackgroundBuilder, "ask", lambda _builder, version: asked.append(version))
    monkeypatch.setattr(BackgroundBuilder, "prepare_first", lambda *_: pytest.fail("nobody waits for it"))
    plant = new_dummies()
    a, raw = runtime.make("a"), runtime.make("raw")
    runtime.behaviours["raw"].load_error = NotPreparedError("raw is not prepared")
    plant.switch(a)
    tell(plant, raw)
    wait_for(lambda: raw in asked)
    runtime.behaviours["raw"].load_error = None
    plant.wait_for_ledger({"a:n@1": "active", "raw:n@1": "preloaded"})
    assert not warnings(plant)


def test_a_guess_that_outgrows_its_prediction_takes_nobodys_place(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=200)
    a, b, grows = (runtime.make(name) for name in ("a", "b", "grows"))
    plant.switch(b)
    plant.switch(a)
    runtime.behaviours["grows"].grows_bytes = 120 * MIB
    tell(plant, grows)
    wait_for(lambda: "grows" in runtime.loads)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "resident"})
    assert runtime.held_bytes == 2 * 60 * MIB
    assert not decisions(plant)
    assert not warnings(plant)


def test_a_list_that_lacks_a_running_preload_ends_it(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    runtime.behaviours["b"].load_may_end.clear()
    tell(plant, b, c)
    assert runtime.behaviours["b"].load_began.wait(60)
    tell(plant, c)
    runtime.behaviours["b"].load_may_end.set()
    plant.wait_for_ledger({"a:n@1": "active", "c:n@1": "preloaded"})
    assert not plant.of(SwapFailed)


def test_two_pools_are_both_respected(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=130, device_budget_mib=10)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    tell(plant, b, c)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded"})
    assert not decisions(plant)


def test_the_files_of_a_failed_proof_are_looked_at_once_in_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, looks = 0.0, list[ModelVersion]()

    def files(version: ModelVersion) -> tuple[object, ...]:
        looks.append(version)
        return (version.path,)

    monkeypatch.setattr(likely_models, "_files", files)
    cache: Cache[Model] = Cache(100, lambda: None)
    models = LikelyModels(cache, lambda _: None, lambda: now_s)
    bad = ModelVersion("bad", "n", "1", str(tmp_path / "bad.onnx"), "aa", golden=str(tmp_path))
    models.replace((bad,))
    models.failed(bad, ModelError("proof_failed", "nonsense"))
    looks.clear()
    for _ in range(100):
        now_s += 0.5
        assert models.next() is None
    assert 4 <= len(looks) <= 6, "each 10 s"
    monkeypatch.setattr(likely_models, "_files", lambda version: (version.path, "touched"))
    now_s += 10.0
    assert models.next() == bad


def test_a_model_that_left_the_catalog_goes_once_nobody_uses_it(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=300)
    a, b, c, d = (runtime.make(name) for name in "abcd")
    plant.switch(c)
    plant.switch(a)
    tell(plant, b, d)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "preloaded", "c:n@1": "resident", "d:n@1": "preloaded"})
    plant.worker.preload(Preload((d,), gone=(a, b, c)))
    plant.wait_for_ledger({"a:n@1": "active", "d:n@1": "preloaded"})
    removed = {("b:n@1", "removed"), ("c:n@1", "removed")}
    plant.wait_until(lambda: {(one.model, one.reason) for one in decisions(plant)} == removed)
    plant.switch(d)
    plant.wait_for_ledger({"d:n@1": "active"})


def test_no_line_leaves_its_model_for_room_that_an_abandoned_preload_will_give_back(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_queue, "_OVERTAKEN_S", 0.2)
    plant = new_dummies(budget_mib=130)
    a, slow, wanted = (runtime.make(name) for name in ("a", "slow", "wanted"))
    plant.switch(a)
    runtime.behaviours["slow"].load_may_end.clear()
    tell(plant, slow)
    assert runtime.behaviours["slow"].load_began.wait(60)
    change = plant.assign(wanted)
    plant.wait_until(lambda: any("its thread is left" in log.text for log in plant.of(Log)))
    waits = threading.Event()
    may_go_on = load_queue.LoadQueue._may_go_on

    def looked(queue: load_queue.LoadQueue, job: LoadJob) -> bool:
        waits.set()
        return may_go_on(queue, job)

    monkeypatch.setattr(load_queue.LoadQueue, "_may_go_on", looked)
    assert waits.wait(60)
    runtime.behaviours["slow"].load_may_end.set()
    answer = plant.answer(change)
    assert isinstance(answer, Swapped)
    assert answer.report.order == "make-before-break"
    assert not plant.of(Breaking)


def test_a_line_leaves_its_model_where_an_abandoned_preload_hangs_on(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_queue, "_OVERTAKEN_S", 0.2)
    monkeypatch.setattr(load_queue, "_PATIENT_SHARE", 0.001)
    plant = new_dummies(budget_mib=130)
    a, stuck, wanted = (runtime.make(name) for name in ("a", "stuck", "wanted"))
    plant.switch(a)
    runtime.behaviours["stuck"].load_may_end.clear()
    tell(plant, stuck)
    assert runtime.behaviours["stuck"].load_began.wait(60)
    answer = plant.answer(plant.assign(wanted))
    assert isinstance(answer, Swapped)
    assert answer.report.order == "break-before-make"
    runtime.behaviours["stuck"].load_may_end.set()
