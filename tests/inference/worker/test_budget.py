"""Loads, evictions, refusals and breaks within the budget, to the byte, with dummies."""

from collections.abc import Callable
from pathlib import Path

from inference.worker.dummies import MIB, Behaviour, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import Feeder, entry_of, sha256_of

from agent.inference.memory.footprints import Footprints
from agent.messages.children import CacheState, Detections, Log, SwapFailed, Swapped
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelFile

NewDummies = Callable[..., PlantOfDummies]
Feed = Callable[..., Feeder]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}


def assert_within_budget(plant: PlantOfDummies) -> None:
    assert all(0 <= state.used_bytes <= state.budget_bytes for state in plant.of(CacheState))


def test_the_model_used_longest_ago_is_evicted(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=200)
    a, b, c, d = (runtime.make(name) for name in "abcd")
    for version in (a, b, c):
        plant.switch(version)
    plant.cost_the_same()
    plant.switch(d)
    plant.wait_for_ledger({"b:n@1": "resident", "c:n@1": "resident", "d:n@1": "active"})
    assert plant.switch(c).report.residency == "resident"
    assert plant.switch(a).report.residency == "cold"
    assert_within_budget(plant)
    assert runtime.loads == ["a", "b", "c", "d", "a"]


def test_room_is_made_by_leaving_first_only_where_nothing_else_helps(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(budget_mib=100)
    small, large = runtime.make("small", 60), runtime.make("large", 90)
    plant.switch(small)
    feeder = feed(plant.writers["cam-1"], 0.002)
    report = plant.switch(large).report
    assert (report.order, report.residency) == ("break-before-make", "cold")
    assert report.blind_ms > 0
    plant.wait_for_ledger({"large:n@1": "active"})
    feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == feeder.offered)
    assert_within_budget(plant)
    assert report.frames_lost == 0, "a source that waits for its reader loses nothing"


def test_frames_lost_while_blind_are_counted(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100)
    small, large = runtime.make("small", 60), runtime.make("large", 90)
    plant.switch(small)
    plant.detect()
    behaviour = runtime.behaviours["large"]
    behaviour.load_may_end.clear()
    change = plant.assign(large)
    assert behaviour.load_began.wait(60)
    writer = plant.writers["cam-1"]
    for _ in range(8):
        writer.buffer(64, 64)[:] = 0
        writer.offer(1, 1)
    behaviour.load_may_end.set()
    answer = plant.answer(change)
    assert isinstance(answer, Swapped)
    assert answer.report.frames_lost == 7, "the newest waits, and is inferred"
    plant.wait_until(lambda: plant.of(Detections)[-1].frame == 8)
    assert plant.of(Detections)[-1].model == "large:n@1"


def test_what_never_fits_is_refused_and_the_old_keeps_serving(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100)
    plant.switch(runtime.make("small", 60))
    refusal = plant.refusal(runtime.make("huge", 120))
    assert (refusal.reason, refusal.active) == ("no_memory", "small:n@1")
    assert "budget" in refusal.detail
    assert plant.detect().model == "small:n@1"
    assert runtime.loads == ["small"]


def test_another_lines_model_is_never_sacrificed(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=150)
    one, other, third = (runtime.make(name) for name in ("one", "other", "third"))
    plant.switch(one, "line-1")
    plant.switch(other, "line-2")
    report = plant.switch(third, "line-1").report
    assert report.order == "break-before-make"
    plant.wait_for_ledger({"other:n@1": "active", "third:n@1": "active"})
    refusal = plant.refusal(runtime.make("large", 100), "line-1")
    assert (refusal.reason, refusal.active) == ("no_memory", "third:n@1")


def test_the_old_comes_back_where_its_successor_fails_after_it_left(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(budget_mib=100)
    small, large = runtime.make("small", 60), runtime.make("large", 90)
    runtime.behaviours["large"].proof_error = ModelError("proof_failed", "nonsense")
    plant.switch(small)
    feeder = feed(plant.writers["cam-1"], 0.002)
    refusal = plant.refusal(large)
    assert (refusal.reason, refusal.active) == ("proof_failed", "small:n@1")
    feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == feeder.offered)
    assert runtime.loads == ["small", "large", "small"]
    assert_within_budget(plant)
    assert abs(runtime.held_bytes - 60 * MIB) < 100


def test_where_not_even_the_old_comes_back_nothing_is_active(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100)
    small, large = runtime.make("small", 60), runtime.make("large", 90)
    plant.switch(small)
    runtime.behaviours["small"].load_error = OutOfMemoryError("there was room a moment ago")
    runtime.behaviours["large"].load_error = ModelError("load_failed", "no")
    refusal = plant.refusal(large)
    assert (refusal.reason, refusal.active) == ("load_failed", None)
    runtime.behaviours["small"].load_error = None
    report = plant.switch(small).report
    assert report.blind_ms > 0


def test_a_runtime_without_memory_is_no_memory(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    version = runtime.make("a")
    runtime.behaviours["a"].load_error = OutOfMemoryError("out of memory")
    assert plant.refusal(version).reason == "no_memory"
    plant.wait_for_ledger({})


def test_a_model_larger_than_predicted_is_charged_so_and_remembered(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=200)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    plant.switch(b)
    runtime.behaviours["c"].grows_bytes = 150 * MIB
    assert plant.switch(c).report.order == "make-before-break"
    plant.wait_for_ledger({"c:n@1": "active"})
    assert plant.of(CacheState)[-1].used_bytes == 150 * MIB
    refusal_or_not = plant.switch(b).report
    assert refusal_or_not.order == "break-before-make", "now it is known what c takes"


def test_a_model_measured_beyond_the_budget_is_refused(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=100)
    plant.switch(runtime.make("a", 40))
    liar = runtime.make("liar", 40)
    runtime.behaviours["liar"].grows_bytes = 120 * MIB
    refusal = plant.refusal(liar)
    assert (refusal.reason, refusal.active) == ("no_memory", "a:n@1")
    plant.wait_for_ledger({"a:n@1": "active"})
    assert abs(runtime.held_bytes - 40 * MIB) < 100


def test_measures_are_remembered_for_the_next_worker(
    new_dummies: NewDummies, runtime: DummyRuntime, tmp_path: Path
) -> None:
    plant = new_dummies(budget_mib=300)
    a, b = runtime.make("a"), runtime.make("b")
    runtime.behaviours["b"].grows_bytes = 33 * MIB
    plant.switch(a)
    plant.switch(b)
    plant.worker.stop()
    footprints = Footprints(tmp_path / "cache")
    footprints.read()
    key = f"{b.sha256}/dummy/cpu/own"
    assert footprints.measured_bytes(key) == 33 * MIB
    again = new_dummies(budget_mib=300)
    again.switch(b)
    loading = [row for state in again.of(CacheState) for row in state.models if row.state == "loading"]
    assert {row.bytes for row in loading} == {33 * MIB}


def test_bytes_that_do_not_come_back_stay_charged_until_they_do(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=400)
    leaky, large, last = runtime.make("leaky", 180), runtime.make("large", 250), runtime.make("last", 200)
    runtime.behaviours["leaky"].leaks = True
    plant.switch(leaky)
    refusal = plant.refusal(large)
    assert refusal.reason == "no_memory"
    assert any("not given back" in log.text for log in plant.of(Log))
    assert plant.resident()["leaky:n@1"] == "releasing"
    runtime.behaviours["leaky"].leaks = False
    runtime.held_bytes -= 180 * MIB
    plant.switch(last)
    plant.wait_for_ledger({"last:n@1": "active", "leaky:n@1": "resident"})
    assert len(plant.of(CacheState)[-1].models) == 2


def test_a_hanging_load_is_left_behind_and_stays_charged(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=200, load_timeout_s=4)
    good, stuck, other = (runtime.make(name) for name in ("good", "stuck", "other"))
    plant.switch(good)
    runtime.behaviours["stuck"].load_may_end.clear()
    refusal = plant.refusal(stuck)
    assert (refusal.reason, refusal.active) == ("load_timeout", "good:n@1")
    assert plant.resident()["stuck:n@1"] == "loading"
    assert any("left behind" in log.text for log in plant.of(Log))
    again = plant.refusal(stuck)
    assert again.reason == "load_timeout"
    plant.switch(other)
    runtime.behaviours["stuck"].load_may_end.set()
    plant.wait_until(lambda: "stuck:n@1" not in plant.resident())
    wait_for(lambda: runtime.held_bytes == 120 * MIB)
    wait_for(lambda: "stuck:n@1" not in plant.worker.loads())
    plant.switch(stuck)
    assert plant.detect().model == "stuck:n@1"


def test_a_superseded_load_is_released_and_one_still_wanted_is_used(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=400)
    slow, other = runtime.make("slow"), runtime.make("other")
    behaviour = runtime.behaviours["slow"]
    behaviour.load_may_end.clear()
    first, second = plant.assign(slow), 0
    assert behaviour.load_began.wait(60)
    second = plant.assign(slow)
    answer = plant.answer(first)
    assert isinstance(answer, SwapFailed)
    assert (answer.reason, answer.active) == ("superseded", None)
    third = plant.assign(other)
    overtaken = plant.answer(second)
    assert isinstance(overtaken, SwapFailed)
    assert overtaken.reason == "superseded"
    behaviour.load_may_end.set()
    assert isinstance(plant.answer(third), Swapped)
    plant.wait_for_ledger({"other:n@1": "active"})
    assert abs(runtime.held_bytes - 60 * MIB) < 100
    assert runtime.loads == ["slow", "other"]


def test_a_load_in_progress_serves_the_newer_assignment_of_the_same_model(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    slow = runtime.make("slow")
    behaviour = runtime.behaviours["slow"]
    behaviour.load_may_end.clear()
    first = plant.assign(slow)
    assert behaviour.load_began.wait(60)
    second = plant.assign(slow)
    assert isinstance(plant.answer(first), SwapFailed)
    behaviour.load_may_end.set()
    assert isinstance(plant.answer(second), Swapped)
    assert runtime.loads == ["slow"]


def test_a_resident_swap_does_not_wait_for_another_lines_load(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=400)
    one, other, slow = (runtime.make(name) for name in ("one", "other", "slow"))
    plant.switch(one, "line-1")
    plant.switch(other, "line-1")
    runtime.behaviours["slow"].load_may_end.clear()
    loading = plant.assign(slow, "line-2")
    assert runtime.behaviours["slow"].load_began.wait(60)
    assert plant.switch(one, "line-1").report.residency == "resident"
    runtime.behaviours["slow"].load_may_end.set()
    assert isinstance(plant.answer(loading), Swapped)


def test_a_load_that_breaks_unheard_of_is_a_failed_load(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    good, odd = runtime.make("good"), runtime.make("odd")
    plant.switch(good)
    runtime.behaviours["odd"].load_error = ZeroDivisionError("odd")
    refusal = plant.refusal(odd)
    assert (refusal.reason, refusal.active) == ("load_failed", "good:n@1")
    runtime.behaviours["odd"].load_error = None
    plant.switch(odd)


def test_the_weights_beside_an_xml_are_checked_and_predicted(
    new_dummies: NewDummies, runtime: DummyRuntime, tmp_path: Path
) -> None:
    plant = new_dummies(budget_mib=200)
    graph, weights = tmp_path / "ir.xml", tmp_path / "ir.bin"
    graph.write_text("<net/>")
    weights.write_bytes(bytes(2 * MIB))
    known: dict[str, object] = {"backend": "dummy", "files": (ModelFile("ir.bin", sha256_of(weights)),)}
    version = entry_of("ir", graph, known)
    runtime.behaviours["ir"] = Behaviour()
    weights.write_bytes(bytes(2 * MIB - 1) + b"1")
    refusal = plant.refusal(version)
    assert (refusal.reason, "ir.bin" in refusal.detail) == ("hash_mismatch", True)
    weights.unlink()
    assert plant.refusal(version).reason == "file_missing"
    weights.write_bytes(bytes(2 * MIB))
    plant.switch(version)
    loading = [row.bytes for state in plant.of(CacheState) for row in state.models if row.state == "loading"]
    assert max(loading) == 6 * (2 * MIB + len("<net/>"))
