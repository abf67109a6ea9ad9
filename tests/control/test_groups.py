"""Groups: what happens to the worker of one is nothing to the lines of the others."""

from dataclasses import replace

import pytest
from support.plant_bench import REPORT, Bench, alerts, assigned, lives, plant, states

from agent.control.actions import Action, AssignLine, PreloadLikely, PrepareModel, PublishState, RestartWorker
from agent.control.events import FramesSeen, Seen, StreamChanged, Tick, WorkerHung, WorkerLost, WorkerUp
from agent.control.state import State
from agent.messages.children import Swapped
from agent.messages.events import LinkUp

ONE, TWO = "line/line-1/ready", "line/line-2/ready"


@pytest.fixture
def bench() -> Bench:
    """Give a plant whose lines are in two groups, each ready for a product, with the actions until then forgotten."""
    whole = plant()
    lines = {**whole.lines, "line-2": replace(whole.lines["line-2"], group="other")}
    bench = Bench(State.of(replace(whole, lines=lines, groups=("default", "other"))))
    bench.give(Tick(), LinkUp("5"), WorkerUp(), WorkerUp("other"))
    for line in ("line-1", "line-2"):
        bench.swap(line)
    bench.give(*(StreamChanged(stream, "online") for stream in bench.state.streams))
    for line in ("line-1", "line-2"):
        bench.product("bottle-500", line)
    bench.log.clear()
    return bench


def lines_of(actions: list[Action]) -> set[str]:
    """Return the lines whose topics or assignments are among the actions."""
    topics = {one.topic.split("/")[1] for one in actions if isinstance(one, PublishState) and "line/" in one.topic}
    return topics | {one.line for one in actions if isinstance(one, (AssignLine, PrepareModel))}


def test_a_lost_worker_takes_its_own_lines_alone(bench: Bench) -> None:
    actions = bench.give(WorkerLost("killed", "other"))
    assert lines_of(actions) == {"line-2"}
    assert states(actions, TWO) == ["0"]
    waited = bench.wait(5)
    assert set(lives(waited)) == {"bottle-500"}
    assert lives(waited, "line-2") == []
    assert states(bench.product("17"), ONE) == ["0"]
    assert states(bench.swap(), ONE) == ["17"], "the other group changes over meanwhile"
    actions = bench.give(WorkerUp("other"))
    assert lines_of(actions) == {"line-2"}
    assert states(bench.swap("line-2"), TWO) == ["bottle-500"]


def test_an_alert_names_the_lines_of_the_group(bench: Bench) -> None:
    lost = alerts(bench.give(WorkerLost("killed", "other")))
    assert [(one.code, one.on, one.line, one.detail) for one in lost] == [
        ("worker_lost", True, "line-2", "group other: killed")
    ]
    back = alerts(bench.give(WorkerUp("other")))
    assert [(one.code, one.on, one.line) for one in back] == [("worker_lost", False, "line-2")]


def test_a_group_of_clients_alone_is_told_of_without_a_line() -> None:
    groups = ("default", "mes", "scada")
    bench = Bench(State.of(replace(plant(), groups=groups)))
    bench.give(Tick(), *(WorkerUp(group) for group in groups))
    lost = alerts(bench.give(WorkerLost("killed", "mes"), WorkerHung(hung=True, group="scada")))
    assert [(one.code, one.on, one.line, one.detail) for one in lost] == [
        ("worker_lost", True, None, "group mes: killed"),
        ("worker_hung", True, None, "group scada"),
    ]
    both = alerts(bench.give(WorkerLost("killed too", "scada")))
    assert [(one.on, one.detail) for one in both] == [(True, "group mes: killed; group scada: killed too")]
    assert [(one.on, one.detail) for one in alerts(bench.give(WorkerUp("mes")))] == [(True, "group scada: killed too")]
    back = alerts(bench.give(WorkerUp("scada")))
    assert [(one.code, one.on) for one in back] == [("worker_lost", False), ("worker_hung", False)]


def test_a_hung_worker_takes_its_own_lines_alone(bench: Bench) -> None:
    actions = bench.give(WorkerHung(hung=True, group="other"))
    assert states(actions, TWO) == ["0"]
    assert states(actions, ONE) == []
    assert [(one.code, one.line) for one in alerts(actions)] == [("worker_hung", "line-2")]
    bench.give(WorkerHung(hung=False, group="other"))
    assert bench.said(TWO) == "bottle-500"
    assert [(one.code, one.on) for one in alerts(bench.wait(11))] == [("worker_hung", False)]


def test_frames_without_an_answer_restart_the_worker_of_their_group(bench: Bench) -> None:
    actions: list[Action] = []
    for _ in range(200):
        bench.now_s += 0.1
        well = Seen(offered_s=bench.now_s, taken_s=bench.now_s, answered_s=bench.now_s)
        ill = Seen(offered_s=bench.now_s, waiting=True)
        actions += bench.give(FramesSeen({"cam-1": well, "cam-2": well, "cam-3": ill}))
    assert {one.group for one in actions if isinstance(one, RestartWorker)} == {"other"}
    assert states(actions, ONE) == []
    assert states(actions, TWO) == ["0"]


def test_each_group_preloads_what_its_own_lines_may_want(bench: Bench) -> None:
    bench.state.lines["line-2"].rules = replace(bench.state.lines["line-2"].rules, products={})
    bench.wait(1)
    told = {one.group: one.models for one in bench.log if isinstance(one, PreloadLikely)}
    assert [one.reference for one in told["other"]] == ["cap-check:n@3"]
    bench.log.clear()
    bench.give(WorkerLost("killed", "other"), WorkerUp("other"))
    bench.wait(5)
    assert not [one for one in bench.log if isinstance(one, PreloadLikely)], "it waits, as a preload may have killed it"


def test_a_worker_that_comes_back_gets_the_assignments_of_its_lines(bench: Bench) -> None:
    bench.give(WorkerLost("killed"), WorkerLost("killed", "other"))
    assert assigned(bench.give(WorkerUp())) == ["cap-check:n@3"]
    change = bench.state.lines["line-1"].assignment.change
    assert states(bench.give(Swapped("line-1", change, "cap-check:n@3", REPORT)), ONE) == ["bottle-500"]
    assert bench.said(TWO) == "0"
