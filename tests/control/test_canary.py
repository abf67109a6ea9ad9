"""Comparisons of two versions through the one pure function: asked for, running, decided, and over restarts."""

import json
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pytest
from support import plant_bench
from support.plant_bench import BASE, Bench, acks, alerts, states, switches

from agent.control import snapshot
from agent.control.actions import Action, AssignLine, CompareModels, EndComparison, PrepareModel
from agent.control.events import StreamChanged, Tick, WorkerUp
from agent.control.state import State
from agent.messages.canary import Canary, ClassCounts, Compared, ComparisonBegan, ComparisonFailed, Counts, Histogram
from agent.messages.children import Prepared, PrepareFailed
from agent.messages.events import LinkUp, Received
from agent.messages.references import ModelReference, ModelVersion, natural_key

LINE = "line-1"
TOPIC = f"{BASE}/line/{LINE}/canary/set"
CANARY = f"line/{LINE}/canary"
READY = f"line/{LINE}/ready"
STABLE, CANDIDATE = "cap-check:n@3", "cap-check:n@4"


@dataclass
class Versions:
    """A catalog that versions can come to."""

    known: tuple[ModelVersion, ...] = plant_bench.VERSIONS

    def find(self, reference: ModelReference, variant: str) -> ModelVersion | None:
        wanted = (reference.name, reference.variant or variant)
        fits = [one for one in self.known if (one.name, one.variant) == wanted]
        if reference.version is not None:
            return next((one for one in fits if one.version == reference.version), None)
        return max(fits, key=lambda one: natural_key(one.version), default=None)


class Line(Bench):
    """A plant whose line-1 is ready with version 3, while version 4 is in the catalog and held back."""

    def __init__(self) -> None:
        self.versions = Versions()
        self.plant = replace(plant_bench.plant(), find=self.versions.find, keep_dir="/state/comparisons")
        super().__init__(State.of(self.plant))
        self.start()
        self.product("bottle-500")
        self.versions.known += (ModelVersion("cap-check", "n", "4", "/models/cap-n-4.onnx", "dd", rank=1),)
        self.state.orders.held.add(LINE)

    def ask(self, **fields: object) -> list[Action]:
        return self.give(Received(TOPIC, json.dumps({"id": "c1", "candidate": CANDIDATE} | fields).encode()))

    def say(self, text: str) -> list[Action]:
        return self.give(Received(TOPIC, json.dumps({"id": text, "value": text}).encode()))

    def run(self, **fields: object) -> list[Action]:
        """Ask, and let the worker load and begin."""
        self.ask(**fields)
        return self.load()

    def load(self) -> list[Action]:
        number = self.comparison.number
        return self.give(Prepared(LINE, number, self.comparison.candidate), ComparisonBegan(LINE, number))

    def count(self, **counts: Any) -> list[Action]:  # noqa: ANN401 - fields of Counts
        return self.give(Compared(LINE, self.comparison.number, Counts(**counts)))

    @property
    def comparison(self) -> Any:  # noqa: ANN401 - None is an error of the test
        return self.state.lines[LINE].comparison

    def told(self) -> Canary:
        return msgspec.json.decode(self.said(CANARY) or "", type=Canary)


def assigned(actions: list[Action]) -> list[str]:
    """Return the references that the worker was told for the line."""
    return [one.model.reference for one in actions if isinstance(one, AssignLine) and one.line == LINE]


@pytest.fixture
def line() -> Line:
    return Line()


def test_a_shadow_is_loaded_beside_what_serves_and_changes_nothing(line: Line) -> None:
    asked = line.ask(mode="shadow", share=0.5)
    assert [one.result for one in acks(asked)] == ["accepted"]
    assert [one.model.reference for one in asked if isinstance(one, PrepareModel)] == [CANDIDATE]
    begun = line.load()
    (compare,) = (one for one in begun if isinstance(one, CompareModels))
    assert (compare.candidate.reference, compare.mode, compare.share) == (CANDIDATE, "shadow", 0.5)
    assert (compare.keep_bytes, compare.keep_dir) == (0, "/state/comparisons/line-1")  # where older pictures lie
    assert [one.result for one in acks(begun)] == ["done"]
    assert not assigned(asked + begun)
    assert not states(asked + begun, READY)
    told = line.told()
    assert (told.stage, told.result, told.stable, told.frames) == ("running", "running", STABLE, 0)


def test_the_candidate_is_not_taken_by_the_rules_while_it_is_compared(line: Line) -> None:
    line.run()
    line.state.orders.held.clear()
    assert not assigned(line.wait(10.0))


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("nonsense", "not_understood"),
        ("{}", "not_understood"),
        ('{"candidate": "cap-check:n@9"}', "unknown_model"),
        ('{"candidate": "cap-check:n@3"}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "mode": "both"}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "share": 0}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "share": true}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "share": 1.5}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "frames": 2.5}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "promote": "yes"}', "not_understood"),
        ('{"candidate": "cap-check:n@4", "shares": 0.1}', "not_understood"),
        ('{"candidate": "label-check:n@1", "mode": "canary"}', "not_understood"),
        ('{"candidate": "cap-check:s@3", "promote": "auto"}', "not_understood"),
        ('"promote"', "not_understood"),
        (" " * 5000, "too_large"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(line: Line, payload: str, reason: str) -> None:
    before = snapshot.take(line.state).lines
    answers = acks(line.give(Received(TOPIC, payload.encode())))
    assert [(one.result, one.reason) for one in answers] == [("rejected", reason)]
    assert snapshot.take(line.state).lines == before


def test_a_retained_command_is_refused(line: Line) -> None:
    refused = line.give(Received(TOPIC, b'{"candidate": "cap-check:n@4"}', retained=True))
    assert [one.reason for one in acks(refused)] == ["retained"]


def test_the_same_again_is_answered_with_the_first(line: Line) -> None:
    line.ask(id="c1")
    assert [one.result for one in acks(line.ask(id="c2"))] == ["accepted"]
    assert [(one.id, one.result) for one in acks(line.load())] == [("c1", "done"), ("c2", "done")]
    assert [one.result for one in acks(line.ask(id="c3"))] == ["noop"]


def test_a_candidate_that_cannot_be_loaded_is_refused_with_what_is_missing(line: Line) -> None:
    line.ask()
    ended = line.give(PrepareFailed(LINE, line.comparison.number, CANDIDATE, "no_memory", "short of 12 MiB"))
    assert [(one.result, one.reason) for one in acks(ended)] == [("failed", "no_memory")]
    told = line.told()
    assert (told.result, told.reason, told.stage) == ("rolled_back", "no_memory", "ended")
    assert "12 MiB" in (told.detail or "")
    assert line.said(READY) == "bottle-500"


def holds(actions: list[Action]) -> list[tuple[str, float]]:
    """Return what the worker is to keep loaded, with the seconds."""
    return [(one.model.reference, one.hold_s) for one in actions if isinstance(one, PrepareModel)]


@pytest.mark.parametrize("is_known", [True, False])
def test_a_stop_while_the_candidate_loads_ends_its_reservation(line: Line, *, is_known: bool) -> None:
    line.ask()
    number = line.comparison.number
    if is_known:
        stopped = line.say("stop")
    else:
        line.versions.known = plant_bench.VERSIONS
        stopped = line.give(Tick())
    assert holds(stopped) == [(CANDIDATE, 0.0)]
    assert not holds(line.give(Prepared(LINE, number, CANDIDATE)))
    assert line.told().result == "stopped"


def test_a_stop_while_the_candidate_loads_leaves_what_a_plc_announced(line: Line) -> None:
    line.ask(candidate="cap-check:s@3")
    line.give(Received(f"{BASE}/line/{LINE}/prepare", json.dumps({"id": "p1", "value": "cap-check:s@3"}).encode()))
    (released,) = (one for one in line.say("stop") if isinstance(one, PrepareModel))
    assert (released.model.reference, released.hold_s) == ("cap-check:s@3", 0.0)
    assert released.is_candidate, "the line's own reservation is another"


def test_a_failed_load_leaves_nothing_to_release(line: Line) -> None:
    line.ask()
    assert not holds(line.give(PrepareFailed(LINE, line.comparison.number, CANDIDATE, "load_failed", "no file")))


def test_a_canary_keeps_ready_also_where_the_product_names_the_stable_version() -> None:
    line = Line()
    rules = line.state.lines[LINE].rules
    named = replace(rules, products={"bottle-500": ModelReference("cap-check", "n", "3")})
    line.state.lines[LINE].rules = named
    begun = line.run(mode="canary")
    assert not states(begun, READY)
    assert line.said(READY) == "bottle-500"
    promoted = line.say("promote") + line.swap()
    assert not states(promoted, READY)
    assert line.said(f"line/{LINE}/model/state") == CANDIDATE


def test_few_frames_decide_nothing(line: Line) -> None:
    line.run()
    line.count(frames=20, objects=20, missing=20, against=20)
    assert line.told().result == "running"
    line.count(frames=200, objects=200, missing=200, against=200)
    told = line.told()
    assert (told.result, told.reason) == ("rolled_back", "disagreement")
    assert told.missing == 220


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"frames": 400, "objects": 400, "agree": 800, "missing": 200, "against": 200}, "disagreement"),
        ({"frames": 400, "objects": 400, "agree": 800, "extra": 200, "against": 200}, "disagreement"),
        ({"frames": 400, "objects": 400, "agree": 800, "scored": 400, "score": -40.0, "score_squares": 5.0}, "scores"),
        (
            {"frames": 400, "objects": 400, "agree": 800, "classes": {"cap": ClassCounts(frames=400, fewer=150)}},
            "class_rates",
        ),
        ({"late": 8}, "latency"),
    ],
)
def test_each_bound_rolls_back_with_its_numbers(line: Line, counts: dict[str, Any], reason: str) -> None:
    line.run(mode="canary")
    ended = line.count(**counts)
    told = line.told()
    assert (told.result, told.reason) == ("rolled_back", reason)
    assert [type(one).__name__ for one in ended if isinstance(one, (EndComparison, AssignLine))] == ["EndComparison"]
    (switch,) = switches(ended)
    assert (switch.from_, switch.to, switch.cause.rule, switch.result) == (CANDIDATE, STABLE, "canary", "switched")
    assert reason in (switch.detail or "")
    assert [(one.code, one.on) for one in alerts(ended)] == [("candidate_rolled_back", True)]
    assert line.said(READY) == "bottle-500"


def test_a_slower_candidate_is_held_to_the_stable_models_p99_only_where_it_answers() -> None:
    slow = {"stable_ms": Histogram({80: 1000}), "candidate_ms": Histogram({80: 150, 100: 50})}
    shadow, canary = Line(), Line()
    shadow.run(mode="shadow")
    canary.run(mode="canary")
    shadow.count(frames=200, **slow)
    canary.count(frames=200, **slow)
    assert shadow.told().result == "running"
    assert (canary.told().result, canary.told().reason) == ("rolled_back", "latency")


def test_after_a_rollback_the_rules_do_not_take_the_candidate_either(line: Line) -> None:
    line.run(mode="canary")
    line.give(ComparisonFailed(LINE, line.comparison.number, "proof_failed", "NaN"))
    line.state.orders.held.clear()
    assert not assigned(line.wait(10.0))
    line.product("17")
    line.swap()
    assert assigned(line.product("bottle-500")) == [STABLE]
    line.swap()
    assert assigned(line.model(CANDIDATE)) == [CANDIDATE], "an operator may still choose it"


def test_enough_good_frames_promote_by_themselves(line: Line) -> None:
    line.run(promote="auto", frames=300)
    line.count(frames=299, objects=299, agree=299)
    promoted = line.count(frames=1, objects=1, agree=1)
    order = [type(one) for one in promoted if isinstance(one, (EndComparison, AssignLine))]
    assert order == [EndComparison, AssignLine]
    (switch,) = switches(line.swap())
    assert (switch.to, switch.cause.rule, switch.cause.value, switch.result) == (
        CANDIDATE,
        "canary",
        CANDIDATE,
        "switched",
    )
    assert switch.detail == "agreement 1.0000 (0.9783 to 1.0000 in 300 frames)"
    assert (line.told().result, line.told().detail) == ("promoted", switch.detail)
    line.product("17")
    line.swap()
    assert assigned(line.product("bottle-500")) == [CANDIDATE], "a promotion lasts"


@pytest.mark.parametrize("counts", [{"frames": 10, "objects": 10, "missing": 10}, {"frames": 5000, "objects": 99}])
def test_too_few_frames_with_objects_promote_nothing_by_themselves(line: Line, counts: dict[str, Any]) -> None:
    line.run(promote="auto", frames=10)
    assert not assigned(line.count(**counts))
    assert (line.told().result, line.told().stage) == ("running", "running")
    line.wait(10.5)
    found = counts["objects"]
    awaited = f"waits for objects: found in {found} of the 100 frames that a promotion by itself needs"
    assert (line.told().detail, line.told().reason) == (awaited, None)
    line.count(frames=100, objects=100, agree=100_000)
    assert line.told().result == "promoted"


def test_enough_good_frames_wait_for_a_word_where_they_should(line: Line) -> None:
    line.run(frames=300)
    line.count(frames=300, objects=300, agree=300)
    assert line.told().result == "ready_to_promote"
    assert acks(line.say("promote"))[-1].result == "accepted"
    assert acks(line.swap())[-1].result == "done"


def test_a_shadow_of_another_model_can_be_compared_and_not_promoted(line: Line) -> None:
    line.run(candidate="cap-check:s@3")
    assert acks(line.say("promote"))[-1].result == "rejected"
    assert line.told().result == "running"
    assert acks(line.say("stop"))[-1].result == "done"
    assert line.told().result == "stopped"
    assert acks(line.say("stop"))[-1].result == "done", "a repeated id has the same answer"


def test_a_product_change_ends_it_before_the_worker_hears_of_the_next_model(line: Line) -> None:
    line.run(mode="canary")
    changed = line.product("17")
    kinds = [type(one) for one in changed if isinstance(one, (EndComparison, AssignLine))]
    assert kinds == [EndComparison, AssignLine]
    told = line.told()
    assert (told.result, told.reason) == ("stopped", "superseded")
    assert not alerts(changed)


def test_a_product_of_the_same_model_ends_it_too(line: Line) -> None:
    line.run(mode="canary")
    changed = line.product("bottle-330")
    assert [type(one) for one in changed if isinstance(one, EndComparison)] == [EndComparison]
    assert line.told().result == "stopped"
    assert line.said(READY) == "bottle-330"


def test_a_lost_worker_is_survived_once(line: Line) -> None:
    line.run(mode="canary")
    line.count(frames=50, objects=50, agree=50)
    line.lose_worker()
    assert (line.told().stage, line.told().frames) == ("waiting", 50)
    line.give(WorkerUp())
    line.swap("line-2")
    again = line.swap()
    assert [one.model.reference for one in again if isinstance(one, PrepareModel)] == [CANDIDATE]
    line.load()
    assert (line.told().stage, line.told().frames) == ("running", 50)
    assert line.said(READY) == "bottle-500"
    line.lose_worker()
    assert (line.told().result, line.told().reason) == ("rolled_back", "worker_lost")


def test_a_worker_that_was_lost_long_ago_is_forgiven(line: Line) -> None:
    line.run()
    for _ in range(3):
        line.count(frames=500, objects=500, agree=500)
        line.lose_worker()
        line.give(WorkerUp())
        line.swap()
        line.load()
    assert (line.told().result, line.told().frames) == ("running", 1500)


def test_late_words_of_the_worker_about_an_older_comparison_change_nothing(line: Line) -> None:
    line.run(mode="canary")
    old = line.comparison.number
    line.say("stop")
    line.run(mode="canary", id="c2")
    for late in (
        Compared(LINE, old, Counts(frames=500, objects=500, missing=500)),
        ComparisonFailed(LINE, old, "hung", ""),
        ComparisonBegan(LINE, old),
    ):
        line.give(late)
    assert (line.told().result, line.told().frames) == ("running", 0)


def test_a_restart_goes_on_where_it_stood_and_keeps_the_stable_version(line: Line) -> None:
    line.run(mode="canary", share=0.2)
    line.count(frames=70, objects=70, agree=69, missing=1, stable_ms=Histogram({80: 70}))
    kept = msgspec.json.decode(msgspec.json.encode(snapshot.take(line.state)), type=snapshot.Snapshot)
    line.state = State.of(line.plant)
    snapshot.restore(line.state, kept)
    started = line.give(Tick(), LinkUp("5"), WorkerUp())
    assert assigned(started)[0] == STABLE, "the rules find version 4, which is not decided for"
    assert line.told().stage == "waiting"
    line.give(*(StreamChanged(stream, "online") for stream in line.state.streams))
    line.swap()
    line.load()
    told = line.told()
    assert (told.stage, told.frames, told.missing, told.share) == ("running", 70, 1, 0.2)
    assert told.latency_ms["stable"].p50 == pytest.approx(10.3, abs=0.1)


def test_a_restart_tells_of_a_rollback_again(line: Line) -> None:
    line.run()
    line.give(ComparisonFailed(LINE, line.comparison.number, "hung", "no answer for 2 s"))
    kept = msgspec.json.decode(msgspec.json.encode(snapshot.take(line.state)), type=snapshot.Snapshot)
    line.state = State.of(line.plant)
    snapshot.restore(line.state, kept)
    started = line.give(Tick())
    assert line.told().result == "rolled_back"
    assert [one.code for one in alerts(started) if one.on] == ["candidate_rolled_back"]
    assert [one.code for one in alerts(line.say("stop")) if not one.on] == ["candidate_rolled_back"]


def test_it_is_told_every_ten_seconds(line: Line) -> None:
    line.run()
    assert len(states(line.wait(30.0), CANARY)) == 3


def test_a_candidate_that_leaves_the_catalog_ends_it(line: Line) -> None:
    line.run()
    line.versions.known = plant_bench.VERSIONS
    line.give(Tick())
    assert (line.told().result, line.told().reason) == ("stopped", "unknown_model")


def test_the_stage_is_waiting_while_the_line_turns_over(line: Line) -> None:
    line.product("17")
    line.ask(candidate="cap-check:n@3")
    assert line.told().stage == "waiting"
    line.swap()
    assert line.told().stage == "loading"
