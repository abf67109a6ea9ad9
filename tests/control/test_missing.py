"""Alerts for streams that never come and products that the catalog lacks."""

from dataclasses import replace

import pytest
from support.plant_bench import BASE, Bench, acks, alerts, assigned, find, plant, states, switches

from agent.control import snapshot
from agent.control.actions import Action
from agent.control.events import Reloaded, StreamChanged, Tick, WorkerUp
from agent.control.lines import selection
from agent.control.plant import Plant
from agent.control.state import Override, State
from agent.messages.events import LinkUp, Received
from agent.messages.payloads import Cause
from agent.messages.references import ModelReference, ModelVersion

READY = "line/line-1/ready"


def without(name: str) -> Plant:
    """Return the plant with a catalog that lacks a model."""

    def found(reference: ModelReference, variant: str) -> ModelVersion | None:
        return find(reference, variant) if reference.name != name else None

    return replace(plant(), find=found)


def codes(actions: list[Action]) -> list[tuple[str, bool]]:
    """Return (code, on) of each change of an alert."""
    return [(one.code, one.on) for one in alerts(actions)]


def words(actions: list[Action]) -> list[tuple[str, str | None]]:
    """Return (result, reason) of each answer."""
    return [(one.result, one.reason) for one in acks(actions)]


def test_a_camera_that_never_comes_is_told_when_it_should_have_been_there() -> None:
    bench = Bench()
    bench.give(Tick(), LinkUp("5"), WorkerUp(), StreamChanged("cam-1", "online"))
    assert codes(bench.wait(9)) == []
    told = alerts(bench.wait(3))
    assert [(one.code, one.on, one.stream) for one in told] == [("camera", True, "cam-2"), ("camera", True, "cam-3")]
    assert codes(bench.wait(10)) == [], "once"
    assert codes(bench.give(StreamChanged("cam-2", "online"))) == [("camera", False)]


def test_a_file_that_came_to_its_end_is_not_missed(bench: Bench) -> None:
    bench.give(StreamChanged("cam-1", "ended"))
    assert codes(bench.wait(15)) == []


def test_a_product_whose_model_the_catalog_lacks_stops_the_line_each_time(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.give(Reloaded(without("label-check")))
    first = bench.product("17")
    assert states(first, READY) == ["0"]
    assert words(first) == [("rejected", "unknown_model")]
    assert [(one.result, one.reason) for one in switches(first)] == [("rejected", "unknown_model")]
    assert bench.said("line/line-1/phase") == "fault"
    assert bench.said("line/line-1/model/state") == "cap-check:n@3"
    assert codes(bench.wait(1)) == [("unknown_model", True)]
    again = bench.product("17")
    assert words(again) == [("rejected", "unknown_model")]
    assert not switches(again)
    assert states(bench.product("bottle-500"), READY) == ["bottle-500"]
    assert codes(bench.wait(1)) == [("unknown_model", False)]
    assert bench.said("line/line-1/phase") == "ready"


def test_it_ends_the_changeover_before_it_and_a_reload_that_brings_the_model_goes_on(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.give(Reloaded(without("label-check")))
    bench.product("big")
    gone = bench.product("17")
    assert words(gone) == [("failed", "superseded"), ("rejected", "unknown_model")]
    assert assigned(gone) == ["cap-check:n@3"]
    bench.swap()
    bench.give(Reloaded(plant()))
    assert assigned(bench.wait(3)) == ["label-check:n@1"]
    assert states(bench.swap(), READY) == ["17"]


def test_a_line_whose_default_comes_with_a_reload_runs_it() -> None:
    bench = Bench(State.of(without("cap-check")))
    assert codes(bench.give(Tick(), LinkUp("5"), WorkerUp())) == [("unknown_model", True), ("unknown_model", True)]
    assert bench.said("line/line-1/phase") == "fault"
    bench.give(Reloaded(plant()))
    assert assigned(bench.wait(3)) == ["cap-check:n@3", "cap-check:n@3"]


def test_the_choice_is_given_back_though_there_is_nothing_to_run(bench: Bench) -> None:
    bench.product("17")
    bench.swap()
    bench.model("cap-check")
    bench.swap()
    bench.give(Reloaded(without("label-check")))
    assert words(bench.model("auto")) == [("done", None)]
    assert bench.said("line/line-1/phase") == "fault"


def test_a_product_repeated_while_ready_is_nothing_though_a_change_by_schedule_failed(bench: Bench) -> None:
    bench.product("bottle-500")
    rule = b'[{"line": "line-1", "from": "00:00", "to": "00:00", "variant": "s"}]'
    bench.give(Received(f"{BASE}/schedule/set", rule))
    assert assigned(bench.wait(3)) == ["cap-check:s@3"]
    bench.fail("load_failed")
    assert bench.said(READY) == "bottle-500"
    again = bench.product("bottle-500")
    assert words(again) == [("noop", None)]
    assert not states(again, READY)
    assert not assigned(again)


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (b'{"line": "line-7", "from": "00:00", "to": "00:00", "variant": "s"}', "unknown_line"),
        (b'{"line": "line-1", "from": "00:00", "to": "00:00", "model": "no-such"}', "unknown_model"),
        (b'{"line": "line-1", "from": "00:00", "to": "00:00"}', "not_understood"),
    ],
)
def test_a_schedule_is_refused_with_the_reason(bench: Bench, rule: bytes, reason: str) -> None:
    assert words(bench.give(Received(f"{BASE}/schedule/set", b"[" + rule + b"]"))) == [("rejected", reason)]
    assert bench.state.scheduling.rules == ()


def test_an_unknown_product_is_a_fault_also_under_an_operator_and_over_a_restart(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.model("label-check")
    bench.swap()
    bench.product("mystery")
    assert bench.said("line/line-1/phase") == "fault"
    again = Bench()
    snapshot.restore(again.state, snapshot.take(bench.state))
    again.start()
    assert again.said("line/line-1/phase") == "fault"
    assert words(again.model("label-check")) == [("noop", None)]
    assert words(again.product("bottle-500")) == [("noop", "overridden")]
    assert again.said("line/line-1/phase") == "idle"


def test_who_joins_a_recovery_that_does_not_end_is_answered_each_time(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.lose_worker()
    bench.give(WorkerUp())
    bench.wait(31)
    for _ in range(2):
        assert words(bench.product("bottle-500")) == [("accepted", None)]
        assert words(bench.wait(31)) == [("failed", "timeout")]
    assert states(bench.swap(), READY) == ["bottle-500"]


def test_a_product_on_a_line_that_has_nothing_to_run_is_answered(bench: Bench) -> None:
    bench.product("big")
    bench.swap()
    selection.roll_back(
        bench.state.lines["line-1"], Override(ModelReference("cap-check", "gone"), Cause("rollback", "cmd"))
    )
    again = Bench()
    snapshot.restore(again.state, snapshot.take(bench.state))
    again.give(Tick(), LinkUp("5"), WorkerUp())
    assert words(again.product("big")) == [("rejected", "unknown_model")]
    assert again.said("line/line-1/phase") == "fault"
