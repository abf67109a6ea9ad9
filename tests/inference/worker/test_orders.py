"""Reasons of evictions and refusals, and the order of a changeover where memory is short."""

from collections.abc import Callable

import pytest
from inference.worker.dummies import MIB, DummyRuntime, PlantOfDummies, wait_for
from inference.worker.plant import Feeder, decisions

from agent.inference.backends import Model
from agent.inference.memory.cache import Cache, Entry, Origin
from agent.inference.memory.pools import Amount
from agent.messages.children import (
    Breaking,
    CacheState,
    Detections,
    InferenceFailed,
    MemoryKept,
    Message,
    SwapFailed,
    Swapped,
)
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

NewDummies = Callable[..., PlantOfDummies]
Feed = Callable[..., Feeder]
TWO_LINES = {"cam-1": "line-1", "cam-2": "line-2"}
TWO_STREAMS = {"cam-1": "line-1", "cam-2": "line-1"}


def told(plant: PlantOfDummies) -> list[tuple[str, str, str, str | None]]:
    return [(one.verdict, one.reason, one.model, one.wanted) for one in decisions(plant)]


def test_an_eviction_says_for_whom_by_what_scores_and_how_many_bytes(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=200)
    a, b, c, d = (runtime.make(name) for name in "abcd")
    for version in (a, b, c):
        plant.switch(version)
    plant.cost_the_same(b=900.0)
    plant.switch(d)
    (one,) = decisions(plant)
    assert (one.verdict, one.reason, one.model, one.wanted) == ("evicted", "room", "a:n@1", "d:n@1")
    assert one.needed_bytes == 40 * MIB
    assert one.predicted_bytes == one.actual_bytes == 60 * MIB
    assert [(each.model, each.reload_ms) for each in one.candidates] == [("a:n@1", 100.0), ("b:n@1", 900.0)]
    cheapest = one.candidates[0]
    assert 0 < cheapest.rate < 1
    assert cheapest.score == pytest.approx(cheapest.rate * 100.0 / 60, rel=0.01)


def test_a_model_dear_to_load_outlives_one_that_was_used_later(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=200)
    versions = {name: runtime.make(name) for name in "abcd"}
    for name in "abc":
        plant.switch(versions[name])
    plant.cost_the_same(a=5000.0)
    plant.switch(versions["d"])
    plant.wait_for_ledger({"a:n@1": "resident", "c:n@1": "resident", "d:n@1": "active"})


def test_refusals_say_what_was_wanted_and_what_was_measured(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=200)
    a, b, huge, wide, liar, poor = (
        runtime.make(name, size)
        for name, size in (("a", 60), ("b", 60), ("huge", 300), ("wide", 150), ("liar", 72), ("poor", 72))
    )
    plant.switch(a, "line-1")
    plant.switch(b, "line-2")
    runtime.behaviours["liar"].grows_bytes = 190 * MIB
    runtime.behaviours["poor"].load_error = OutOfMemoryError("bad_alloc")
    for version in (huge, wide, liar, poor):
        refusal = plant.refusal(version)
        assert (refusal.reason, refusal.active) == ("no_memory", "a:n@1")
    assert told(plant) == [
        ("refused", "too_large", "huge:n@1", None),
        ("refused", "in_use", "wide:n@1", None),
        ("refused", "outgrew", "liar:n@1", None),
        ("refused", "out_of_memory", "poor:n@1", None),
    ]
    measured = [(one.predicted_bytes >> 20, one.actual_bytes) for one in decisions(plant)]
    assert measured == [(300, None), (150, None), (72, 190 * MIB), (72, None)]
    plant.wait_for_ledger({"a:n@1": "active", "b:n@1": "active"})
    assert runtime.held_bytes == 120 * MIB


def test_a_line_says_that_it_breaks_before_it_is_blind(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(lines=TWO_STREAMS, budget_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    feeders = [feed(writer, 0.001) for writer in plant.writers.values()]
    plant.wait_until(lambda: len(plant.of(Detections)) > 20)
    answer = plant.answer(plant.assign(b))
    assert isinstance(answer, Swapped)
    assert (answer.report.order, answer.report.blind_ms > 0) == ("break-before-make", True)
    assert [(one.line, one.change) for one in plant.of(Breaking)] == [("line-1", answer.change)]
    assert told(plant) == [("evicted", "break", "a:n@1", "b:n@1")]
    for feeder in feeders:
        feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == sum(feeder.offered for feeder in feeders))
    plant.detect("cam-1")
    assert order_of(plant.messages) == ["a", "breaking", "a", "swapped", "b"]


def order_of(messages: list[Message]) -> list[str]:
    """List models and moments as they follow each other in the pipe; the first swap is left out."""
    words = []
    for message in messages:
        if isinstance(message, Breaking):
            words.append("breaking")
        if isinstance(message, Swapped) and words:
            words.append("swapped")
        if isinstance(message, Detections):
            words.append(message.model.partition(":")[0])
    kept = [word for place, word in enumerate(words) if place == 0 or words[place - 1] != word]
    at = kept.index("breaking")
    return kept if kept[at + 1] == "a" else [*kept[: at + 1], "a", *kept[at + 1 :]]  # a frame may be under way then


def test_nothing_breaks_where_it_could_not_help(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=100)
    shared, other = runtime.make("shared"), runtime.make("other")
    plant.switch(shared, "line-1")
    plant.switch(shared, "line-2")
    refusal = plant.refusal(other, "line-1")
    assert (refusal.reason, refusal.active) == ("no_memory", "shared:n@1")
    assert not plant.of(Breaking)
    assert "shared:n@1 active" in refusal.detail
    assert plant.detect("cam-1").model == plant.detect("cam-2").model == "shared:n@1"


def test_lines_that_share_a_model_and_want_another_leave_together_for_one_load(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=100)
    shared, blocker, other = runtime.make("shared"), runtime.make("blocker", 6), runtime.make("other")
    plant.switch(shared, "line-1")
    plant.switch(shared, "line-2")
    runtime.behaviours["blocker"].load_may_end.clear()
    plant.announce(blocker)
    assert runtime.behaviours["blocker"].load_began.wait(60)
    changes = [plant.assign(other, line) for line in ("line-1", "line-2")]
    wait_for(lambda: len(plant.worker.loads().get("other:n@1", ())) == 2)
    runtime.behaviours["blocker"].load_may_end.set()
    answers = [plant.answer(change) for change in changes]
    assert all(isinstance(answer, Swapped) and answer.report.blind_ms > 0 for answer in answers)
    assert {one.line for one in plant.of(Breaking)} == {"line-1", "line-2"}
    assert runtime.loads == ["shared", "blocker", "other"]
    plant.wait_for_ledger({"other:n@1": "active", "blocker:n@1": "reserved"})


def test_a_line_that_comes_later_for_a_refused_load_makes_the_room_that_was_missing(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(lines=TWO_LINES, budget_mib=130)
    one, other, wanted = runtime.make("one"), runtime.make("other"), runtime.make("wanted", 70)
    plant.switch(one, "line-1")
    plant.switch(other, "line-2")
    slow = runtime.behaviours["wanted"]
    slow.grows_bytes = 70 * MIB
    first = plant.answer(plant.assign(wanted, "line-1"))
    assert isinstance(first, Swapped)
    assert first.report.order == "break-before-make"
    assert plant.switch(wanted, "line-2").report.residency == "resident"


def test_a_swap_asked_for_while_another_breaks_and_loads_ends_with_the_newest(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(budget_mib=100)
    a, b, c = (runtime.make(name) for name in "abc")
    plant.switch(a)
    feeder = feed(plant.writers["cam-1"], 0.001)
    runtime.behaviours["b"].load_may_end.clear()
    overtaken = plant.assign(b)
    assert runtime.behaviours["b"].load_began.wait(60)
    newest = plant.assign(c)
    answer = plant.answer(overtaken)
    assert isinstance(answer, SwapFailed)
    assert (answer.reason, answer.active) == ("superseded", None)
    runtime.behaviours["b"].load_may_end.set()
    last = plant.answer(newest)
    assert isinstance(last, Swapped)
    assert (last.report.order, last.report.blind_ms > 0) == ("break-before-make", True)
    plant.wait_for_ledger({"c:n@1": "active"})
    feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == feeder.offered)
    assert runtime.held_bytes == 60 * MIB


def test_the_old_model_asked_for_again_while_its_successor_loads_comes_back(
    new_dummies: NewDummies, runtime: DummyRuntime
) -> None:
    plant = new_dummies(budget_mib=100)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    runtime.behaviours["b"].load_may_end.clear()
    plant.assign(b)
    assert runtime.behaviours["b"].load_began.wait(60)
    back = plant.assign(a)
    runtime.behaviours["b"].load_may_end.set()
    assert isinstance(plant.answer(back), Swapped)
    plant.wait_for_ledger({"a:n@1": "active"})
    assert plant.detect().model == "a:n@1"


def test_a_load_that_nobody_wants_any_more_just_after_it_was_charged_is_charged_no_more(
    new_dummies: NewDummies, runtime: DummyRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant = new_dummies()
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    charge = Cache.charge

    def charge_and_overtake(
        cache: Cache[Model], version: ModelVersion, predicted: Amount, origin: Origin
    ) -> Entry[Model] | None:
        entry = charge(cache, version, predicted, origin)
        plant.assign(a)
        wait_for(lambda: not plant.worker.loads()["b:n@1"])
        return entry

    with monkeypatch.context() as patch:
        patch.setattr(Cache, "charge", charge_and_overtake)
        plant.refusal(b)
        wait_for(lambda: not plant.worker.loads())
    plant.wait_for_ledger({"a:n@1": "active"})
    assert runtime.loads == ["a"]
    plant.switch(b)


def test_many_resident_swaps_lose_no_frame_and_no_byte(
    new_dummies: NewDummies, runtime: DummyRuntime, feed: Feed
) -> None:
    plant = new_dummies(lines=TWO_STREAMS, budget_mib=200)
    a, b = runtime.make("a"), runtime.make("b")
    plant.switch(a)
    plant.switch(b)
    feeders = [feed(writer, 0.001) for writer in plant.writers.values()]
    for turn in range(300):
        report = plant.switch((a, b)[turn % 2]).report
        assert (report.residency, report.frames_lost, report.blind_ms) == ("resident", 0, 0)
    for feeder in feeders:
        feeder.stop()
    plant.wait_until(lambda: len(plant.of(Detections)) == sum(feeder.offered for feeder in feeders))
    assert not plant.of(InferenceFailed)
    assert runtime.held_bytes == 120 * MIB
    assert not decisions(plant)


def test_memory_that_does_not_come_back_is_told_until_it_does(new_dummies: NewDummies, runtime: DummyRuntime) -> None:
    plant = new_dummies(budget_mib=400)
    first, leaky, large = runtime.make("first", 60), runtime.make("leaky", 120), runtime.make("large", 300)
    plant.switch(first)
    runtime.behaviours["leaky"].proof_error = ModelError("proof_failed", "nonsense")
    runtime.behaviours["leaky"].leaks = True
    plant.refusal(leaky)
    assert plant.refusal(large).reason == "no_memory", "what is kept is still charged"
    plant.wait_until(lambda: bool(plant.of(MemoryKept)))
    kept = plant.of(MemoryKept)[-1]
    assert kept.models == ("leaky:n@1",)
    assert 50 * MIB < kept.bytes <= 120 * MIB
    runtime.held_bytes -= 120 * MIB
    plant.wait_until(lambda: plant.of(MemoryKept)[-1].bytes == 0)
    plant.wait_until(lambda: "leaky:n@1" not in plant.resident())
    assert all(state.used_bytes <= state.budget_bytes for state in plant.of(CacheState))
