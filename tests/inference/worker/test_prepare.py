"""Models that are announced: loaded beside what serves, kept for their line, never at the price of something better."""

import time
from collections.abc import Callable

from inference.worker.dummies import DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import Feeder, decisions

from agent.messages.children import (
    Breaking,
    CacheDecided,
    CacheState,
    Detections,
    Prepared,
    PrepareFailed,
    SwapFailed,
    Swapped,
)
from agent.messages.errors import ModelError

NewDummies = Callable[..., PlantOfDummies]
Feed = Callable[..., Feeder]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}


def failure(plant: PlantOfDummies, number: int) -> PrepareFailed:
    outcome = plant.outcome(number)
    assert isinstance(outcome, PrepareFailed), outcome
    return outcome


def test_an_announced_model_is_loaded_beside_and_kept_and_its_changeover_is_a_resident_one(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(budget_mib=130)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    feeder = feed(plant.writers["cam-1"], 0.001)
    answer = plant.prepare(b)
    assert (answer.line, answer.model) == ("line-1", "b:n@1")
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "reserved"})
    assert plant.reserved()["b:n@1"] == "line-1"
    report = plant.switch(c).report
    assert report.order == "break-before-make", "what is announced stays, and the line makes room itself"
    plant.wait_for_ledger({"c:n@1": "active", "b:n@1": "reserved"})
    report = plant.switch(b).report
    assert (report.residency, report.order, report.blind_ms) == ("resident", "make-before-break", 0)
    assert report.frames_lost == 0
    plant.wait_for_ledger({"c:n@1": "resident", "b:n@1": "active"})
    assert plant.reserved()["b:n@1"] is None, "the changeover came: the reservation is over"
    feeder.stop()
    assert runtime.loads == ["a", "b", "c"]


def test_a_resident_model_is_reserved_at_once_also_while_it_serves(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=130)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    plant.switch(b)
    plant.prepare(a, "line-2")
    plant.prepare(b, "line-2")
    assert plant.reserved() == {"a:n@1": "line-2", "b:n@1": "line-2"}
    refusal = plant.refusal(c)
    assert (refusal.reason, refusal.active) == ("no_memory", "b:n@1")
    assert "a:n@1 reserved" in refusal.detail
    assert runtime.loads == ["a", "b"]


def test_a_reservation_ends_with_its_time_and_the_model_may_go(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=130)
    a, b, c = (runtime.make(name) for name in "abc")
    for version in (b, a):
        plant.switch(version)
    plant.prepare(b, hold_s=1.5)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "resident"})
    assert plant.reserved()["b:n@1"] is None
    assert plant.switch(c).report.order == "make-before-break"
    assert runtime.loads == ["b", "a", "c"]


def test_the_same_model_again_sets_a_new_end(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=130)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    plant.prepare(b, hold_s=600)
    plant.prepare(b, hold_s=1.5)
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "resident"})
    assert runtime.loads == ["a", "b"]


def test_standby_models_make_room_for_an_announced_one_and_nothing_else_does(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=200)
    a, b, c, d, e = (runtime.make(name) for name in "abcde")
    for version in (b, c, a):
        plant.switch(version)
    plant.cost_the_same()
    plant.prepare(d)
    plant.wait_for_ledger({"a:n@1": "active", "c:n@1": "resident", "d:n@1": "reserved"})
    assert [(one.reason, one.model, one.wanted) for one in decisions(plant)] == [("announced", "b:n@1", "d:n@1")]
    plant.prepare(c, "line-2")
    told = failure(plant, plant.announce(e))
    assert (told.reason, told.model) == ("no_memory", "e:n@1")
    assert not plant.of(Breaking)
    assert decisions(plant)[-1].reason == "in_use"
    plant.wait_for_ledger({"a:n@1": "active", "c:n@1": "reserved", "d:n@1": "reserved"})


def test_a_bad_model_that_is_announced_fails_and_leaves_nothing(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    a, bad = runtime.make("a"), runtime.make("bad")
    runtime.behaviours["bad"].proof_error = ModelError("proof_failed", "nonsense")
    plant.switch(a)
    held_bytes = runtime.held_bytes
    told = failure(plant, plant.announce(bad))
    assert (told.reason, told.detail) == ("proof_failed", "nonsense")
    plant.wait_for_ledger({"a:n@1": "active"})
    assert runtime.held_bytes == held_bytes


def test_an_assignment_goes_before_every_announcement_that_waits(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=400)
    slow, x, y, wanted = (runtime.make(name) for name in ("slow", "x", "y", "wanted"))
    runtime.behaviours["slow"].load_may_end.clear()
    numbers = [plant.announce(slow)]
    assert runtime.behaviours["slow"].load_began.wait(60)
    numbers += [plant.announce(x), plant.announce(y)]
    wait_for(lambda: len(plant.worker.loads()) == 3)
    change = plant.assign(wanted)
    wait_for(lambda: plant.worker.loads().get("wanted:n@1"))
    runtime.behaviours["slow"].load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert all(isinstance(plant.outcome(number), Prepared) for number in numbers)
    assert runtime.loads == ["slow", "wanted", "x", "y"]


def test_an_assignment_takes_over_the_load_that_was_announced(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES)
    a = runtime.make("a")
    behaviour = runtime.behaviours["a"]
    behaviour.load_may_end.clear()
    numbers = [plant.announce(a, "line-1"), plant.announce(a, "line-2")]
    assert behaviour.load_began.wait(60)
    change = plant.assign(a, "line-1")
    wait_for(lambda: plant.worker.loads()["a:n@1"])
    behaviour.load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert all(isinstance(plant.outcome(number), Prepared) for number in numbers)
    plant.wait_for_ledger({"a:n@1": "active"})
    assert plant.reserved()["a:n@1"] == "line-2"
    assert runtime.loads == ["a"]


def test_an_assignment_may_take_the_room_that_an_announcement_may_not(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(budget_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    assert failure(plant, plant.announce(b)).reason == "no_memory"
    feeder = feed(plant.writers["cam-1"], 0.001)
    report = plant.switch(b).report
    assert report.order == "break-before-make"
    feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == feeder.offered)


def test_what_a_line_announced_yields_to_what_it_wants_where_it_would_be_refused_otherwise(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=130)
    a, b, large = runtime.make("a"), runtime.make("b"), runtime.make("large", 120)
    plant.switch(a)
    plant.prepare(b)
    plant.switch(large)
    plant.wait_for_ledger({"large:n@1": "active"})
    assert [(one.reason, one.model) for one in decisions(plant)] == [("break", "a:n@1"), ("room", "b:n@1")]


def test_another_lines_announcement_never_yields(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=130)
    a, b, large = runtime.make("a"), runtime.make("b"), runtime.make("large", 120)
    plant.switch(a)
    plant.prepare(b, "line-2")
    refusal = plant.refusal(large)
    assert (refusal.reason, refusal.active) == ("no_memory", "a:n@1")
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "reserved"})


def test_an_announcement_whose_time_is_over_before_its_load_is_given_up(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    slow, late = runtime.make("slow"), runtime.make("late")
    runtime.behaviours["slow"].load_may_end.clear()
    change = plant.assign(slow)
    assert runtime.behaviours["slow"].load_began.wait(60)
    assert failure(plant, plant.announce(late, hold_s=0.05)).reason == "timeout"
    runtime.behaviours["slow"].load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert runtime.loads == ["slow"]


def test_an_announced_load_that_hangs_is_left_behind_though_no_line_waits_for_it(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=200, load_timeout_s=4)
    first, stuck, other = (runtime.make(name) for name in ("first", "stuck", "other"))
    plant.switch(first)
    runtime.behaviours["stuck"].load_may_end.clear()
    assert failure(plant, plant.announce(stuck)).reason == "load_timeout"
    assert failure(plant, plant.announce(stuck)).reason == "load_timeout", "it still hangs"
    plant.prepare(other)
    runtime.behaviours["stuck"].load_may_end.set()
    plant.wait_for_ledger({"first:n@1": "active", "other:n@1": "reserved"})


def test_the_oldest_of_many_announcements_gives_way(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=4000)
    slow, *many = (runtime.make(f"m{n}", 6) for n in range(11))
    runtime.behaviours["m0"].load_may_end.clear()
    change = plant.assign(slow)
    assert runtime.behaviours["m0"].load_began.wait(60)
    numbers = [plant.announce(version) for version in many]
    assert [failure(plant, number).reason for number in numbers[:2]] == ["superseded", "superseded"]
    runtime.behaviours["m0"].load_may_end.set()
    assert isinstance(plant.answer(change), Swapped)
    assert all(isinstance(plant.outcome(number), Prepared) for number in numbers[2:])


def test_an_unknown_line_announces_nothing(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies()
    assert failure(plant, plant.announce(runtime.make("a"), "line-9")).reason == "unknown_line"


def test_where_nothing_is_announced_memory_keeps_what_was_used(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=300)
    versions = [runtime.make(name) for name in "abcd"]
    for version in versions:
        plant.switch(version)
    time.sleep(0.3)  # nothing may happen by itself
    expected = {"a:n@1": "resident", "b:n@1": "resident", "c:n@1": "resident", "d:n@1": "active"}
    plant.wait_for_ledger(expected)
    assert not plant.of(CacheDecided)
    assert not plant.of(SwapFailed)
    assert all(state.used_bytes <= state.budget_bytes for state in plant.of(CacheState))


def test_an_announcement_that_is_ended_while_its_model_loads_reserves_nothing(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies()
    plant.switch(runtime.make("serving"))
    announced = runtime.make("announced")
    behaviour = runtime.behaviours["announced"]
    behaviour.load_may_end.clear()
    first = plant.announce(announced)
    assert behaviour.load_began.wait(60)
    ended = plant.announce(announced, hold_s=0.0)
    plant.outcome(ended)
    behaviour.load_may_end.set()
    plant.outcome(first)
    plant.wait_until(lambda: plant.resident().get("announced:n@1", "resident") == "resident")
    assert not any(plant.reserved().values())
