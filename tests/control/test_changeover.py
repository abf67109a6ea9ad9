"""Changeovers through the one pure function: what is said, in which order, and when."""

import pytest
from support.plant_bench import BASE, REPORT, Bench, acks, alerts, assigned, lives, plant, states, switches

from agent.control import snapshot
from agent.control.actions import AssignLine, PublishState
from agent.control.events import StreamChanged, Tick, WorkerHung, WorkerUp
from agent.control.state import State
from agent.messages.children import Breaking, InferenceFailed, Preparing, Swapped
from agent.messages.events import LinkUp, Received

READY = "line/line-1/ready"


def test_at_start_every_line_says_zero_before_anything_runs() -> None:
    bench = Bench()
    first = bench.give(Tick())
    assert states(first, READY) == ["0"]
    assert not assigned(first)
    assert assigned(bench.give(WorkerUp())) == ["cap-check:n@3", "cap-check:n@3"]


def test_without_a_product_the_default_runs_idle_and_nothing_is_ready(bench: Bench) -> None:
    line = bench.state.lines["line-1"]
    assert (line.serving.model, line.published.phase, line.published.ready) == ("cap-check:n@3", "idle", "0")


def test_ready_is_zero_before_the_worker_hears_of_it_and_names_the_product_when_it_serves(bench: Bench) -> None:
    bench.product("bottle-500")
    assert bench.said(READY) == "bottle-500"
    actions = bench.product("17")
    order = [a for a in actions if isinstance(a, AssignLine) or (isinstance(a, PublishState) and a.topic == READY)]
    assert isinstance(order[0], PublishState)
    assert order[0].payload == b"0"
    assert isinstance(order[1], AssignLine)
    assert bench.said("line/line-1/phase") == "switching"
    done = bench.swap()
    assert states(done, READY) == ["17"]
    assert states(done, "line/line-1/model/state") == ["label-check:n@1"]
    assert [ack.result for ack in acks(bench.log)] == ["done", "accepted", "done"]


def test_a_different_product_passes_through_zero_though_no_swap_is_needed(bench: Bench) -> None:
    bench.product("bottle-500")
    actions = bench.product("bottle-330")
    assert states(actions, READY) == ["0", "bottle-330"]
    assert lives(actions) == ["0", "bottle-330"]
    assert not assigned(actions)
    assert [(one.result, one.residency) for one in switches(actions)] == [("switched", "resident")]


def test_the_same_product_again_changes_nothing(bench: Bench) -> None:
    bench.product("bottle-500")
    actions = bench.product("bottle-500")
    assert [ack.result for ack in acks(actions)] == ["noop"]
    assert not states(actions, READY)
    assert not switches(actions)


def test_an_unknown_product_stops_the_line_and_the_old_one_restores_it(bench: Bench) -> None:
    bench.product("bottle-500")
    actions = bench.product("mystery")
    assert states(actions, READY) == ["0"]
    assert bench.said("line/line-1/phase") == "fault"
    assert bench.said("line/line-1/model/state") == "cap-check:n@3"
    assert [(ack.result, ack.reason) for ack in acks(actions)] == [("rejected", "unknown_product")]
    assert [(one.code, one.on) for one in alerts(actions)] == [("unknown_product", True)]
    assert [one.result for one in switches(actions)] == ["rejected"]
    back = bench.product("bottle-500")
    assert states(back, READY) == ["bottle-500"]
    assert [(one.code, one.on) for one in alerts(back)] == [("unknown_product", False)]
    assert bench.said("alerts") == "[]"


def test_an_unknown_product_in_a_changeover_keeps_the_model_that_serves(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    actions = bench.product("mystery")
    assert [(ack.result, ack.reason) for ack in acks(actions)] == [
        ("failed", "superseded"),
        ("rejected", "unknown_product"),
    ]
    assert assigned(actions) == ["cap-check:n@3"]
    bench.swap()
    assert bench.said("line/line-1/model/state") == "cap-check:n@3"
    assert bench.said(READY) == "0"


def test_ready_goes_out_before_the_reports_of_how_it_came_about(bench: Bench) -> None:
    bench.product("17")
    kinds = [a.topic if isinstance(a, PublishState) else type(a).__name__ for a in bench.swap()]
    assert kinds.index(READY) < kinds.index("PublishEvent") < kinds.index("Answer")


@pytest.mark.parametrize("payload", [b"", b"\x01", b"{broken", b"[1, 2]", b"x" * 65, bytes(5000), b"null"])
def test_nonsense_changes_nothing_at_all(bench: Bench, payload: bytes) -> None:
    bench.product("bottle-500")
    before = snapshot.take(bench.state).lines
    actions = bench.give(Received(f"{BASE}/line/line-1/product/set", payload))
    assert snapshot.take(bench.state).lines == before
    assert not [action for action in actions if isinstance(action, PublishState)]
    assert [ack.result for ack in acks(actions)] == (["rejected"] if payload else [])


def test_a_newer_command_supersedes_the_older_one(bench: Bench) -> None:
    bench.product("17")
    actions = bench.product("big")
    assert [(ack.result, ack.reason) for ack in acks(actions)] == [("failed", "superseded"), ("accepted", None)]
    assert [one.result for one in switches(actions)] == ["superseded"]
    assert assigned(actions) == ["cap-check:s@3"]


def test_back_to_the_old_product_while_the_new_one_loads_tells_the_worker(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    actions = bench.product("bottle-500")
    assert assigned(actions) == ["cap-check:n@3"]
    assert bench.said(READY) == "0", "the worker may still flip to the one that it was loading"
    assert states(bench.swap(), READY) == ["bottle-500"]


def test_a_late_word_about_an_older_change_ends_nothing_and_makes_nothing_ready(bench: Bench) -> None:
    bench.product("17")
    old = bench.state.lines["line-1"].assignment.change
    bench.product("bottle-500")
    late = bench.give(Swapped("line-1", old, "label-check:n@1", REPORT))
    assert not switches(late)
    assert bench.said(READY) == "0"
    assert states(bench.swap(), READY) == ["bottle-500"]


def test_a_failed_load_keeps_the_old_model_and_says_why(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    actions = bench.fail("hash_mismatch")
    assert [(ack.result, ack.reason) for ack in acks(actions)] == [("failed", "hash_mismatch")]
    assert bench.said("line/line-1/model/state") == "cap-check:n@3"
    assert bench.said("line/line-1/phase") == "fault"
    assert bench.said(READY) == "0"
    assert assigned(bench.product("17")) == ["label-check:n@1"], "after a fault the same product tries again"
    assert states(bench.swap(), READY) == ["17"]
    assert bench.said("alerts") == "[]"


def test_a_changeover_that_takes_too_long_is_a_fault_and_gives_the_line_back(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    actions = bench.wait(30.5)
    assert [(ack.result, ack.reason) for ack in acks(actions)] == [("failed", "timeout")]
    assert assigned(actions) == ["cap-check:n@3"]
    assert bench.said("line/line-1/phase") == "fault"
    bench.swap()
    assert bench.said(READY) == "0", "the old model serves, and it is not the product's"


def test_a_variant_of_the_same_model_keeps_ready(bench: Bench) -> None:
    bench.product("bottle-500")
    actions = bench.model("cap-check:s") + bench.swap()
    assert not states(actions, READY)
    assert bench.said("line/line-1/model/state") == "cap-check:s@3"


def test_the_worker_is_told_whether_the_line_is_ready_until_it_has_swapped(bench: Bench) -> None:
    told = [bench.product(value) for value in ("bottle-500", "17")]
    bench.swap()
    told.append(bench.product("bottle-500"))
    bench.swap()
    told += [bench.model("cap-check:s"), bench.model("label-check:n")]
    keeps = [[one.keeps_ready for one in actions if isinstance(one, AssignLine)] for actions in told]
    assert keeps == [[], [False], [False], [True], [False]]


def test_frames_of_a_model_that_fails_are_of_no_use_until_another_version_is_back(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.model("cap-check:s")
    bench.swap()
    taken_back = bench.give(InferenceFailed("cam-1", "cap-check:s@3", 100, "said the worker"))
    (back,) = (one for one in taken_back if isinstance(one, AssignLine))
    assert (back.model.reference, back.keeps_ready) == ("cap-check:n@3", False)


def test_blind_time_takes_ready_away_even_between_variants(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.model("cap-check:s")
    assert states(bench.give(Breaking("line-1", bench.state.lines["line-1"].assignment.change)), READY) == ["0"]
    assert states(bench.swap(), READY) == ["bottle-500"]


def test_an_operator_overrides_a_product_until_giving_the_choice_back(bench: Bench) -> None:
    bench.product("bottle-500")
    taken = bench.model("label-check")
    assert states(taken, READY) == ["0"]
    bench.swap()
    assert bench.said(READY) == "0"
    overridden = bench.product("big")
    assert [(ack.result, ack.reason) for ack in acks(overridden)] == [("noop", "overridden")]
    assert assigned(bench.model("auto")) == ["cap-check:s@3"]
    assert states(bench.swap(), READY) == ["big"]


def test_a_model_that_the_catalog_lacks_changes_nothing(bench: Bench) -> None:
    bench.product("bottle-500")
    actions = bench.model("no-such-model")
    assert [(ack.result, ack.reason) for ack in acks(actions)] == [("rejected", "unknown_model")]
    assert bench.said(READY) == "bottle-500"


def test_a_lost_worker_is_zero_at_once_and_comes_back_by_recovery(bench: Bench) -> None:
    bench.product("bottle-500")
    lost = bench.lose_worker()
    assert states(lost, READY) == ["0"]
    assert states(lost, "line/line-1/model/state") == ["none"]
    assert lives(bench.wait(3)) == [], "the heartbeat stops while nothing moves"
    assert assigned(bench.give(WorkerUp())) == ["cap-check:n@3", "cap-check:n@3"]
    back = bench.swap()
    assert states(back, READY) == ["bottle-500"]
    assert switches(back)[0].cause.rule == "recovery"


def test_a_worker_lost_in_a_changeover_goes_on_once_and_then_gives_up(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    bench.lose_worker()
    assert "label-check:n@1" in assigned(bench.give(WorkerUp()))
    actions = bench.lose_worker()
    assert ("failed", "worker_lost") in [(ack.result, ack.reason) for ack in acks(actions)]
    assert assigned(bench.give(WorkerUp()))[0] == "cap-check:n@3", "what served before serves again"
    bench.swap()
    assert bench.said("line/line-1/phase") == "fault"


def test_a_product_that_comes_while_the_worker_is_away_is_taken_up_by_the_next(bench: Bench) -> None:
    bench.lose_worker()
    actions = bench.product("17")
    assert [ack.result for ack in acks(actions)] == ["accepted"]
    assert assigned(bench.give(WorkerUp()))[0] == "label-check:n@1"
    assert states(bench.swap(), READY) == ["17"]


def test_a_hung_worker_and_a_stalled_camera_take_ready_and_the_heartbeat(bench: Bench) -> None:
    bench.product("bottle-500")
    for away, back in (
        (WorkerHung(hung=True), WorkerHung(hung=False)),
        (StreamChanged("cam-2", "stalled"), StreamChanged("cam-2", "online")),
        (StreamChanged("cam-2", "ended"), StreamChanged("cam-2", "online")),
    ):
        assert states(bench.give(away), READY) == ["0"]
        assert lives(bench.wait(3)) == []
        assert states(bench.give(back), READY) == ["bottle-500"]


def test_a_worker_that_hangs_on_and_off_is_one_alert(bench: Bench) -> None:
    bench.product("bottle-500")
    said = []
    for _ in range(5):
        said += alerts(bench.give(WorkerHung(hung=True))) + alerts(bench.wait(2))
        said += alerts(bench.give(WorkerHung(hung=False))) + alerts(bench.wait(2))
    assert [(one.code, one.on) for one in said] == [("worker_hung", True)]
    assert [(one.code, one.on) for one in alerts(bench.wait(10))] == [("worker_hung", False)]


def test_the_heartbeat_comes_every_second(bench: Bench) -> None:
    bench.product("bottle-500")
    assert lives(bench.wait(10)) == ["bottle-500"] * 10
    assert lives(bench.wait(10), "line-2") == ["0"] * 10


def test_a_retained_product_is_a_command_once(bench: Bench) -> None:
    bench.product("17", retained=True)
    bench.swap()
    bench.give(LinkUp("5"))
    assert not acks(bench.product("17", retained=True)), "the broker shows what it showed before"
    bench.product("bottle-500")
    bench.swap()
    bench.give(LinkUp("5"))
    assert not acks(bench.product("17", retained=True)), "nor does it undo what came live since"
    bench.give(LinkUp("5"))
    assert acks(bench.product("big", retained=True)), "one that changed during an outage is a command"


def test_what_a_probe_shows_is_no_command_but_is_remembered(bench: Bench) -> None:
    bench.product("17")
    bench.swap()
    bench.product("bottle-500")
    bench.swap()
    assert not acks(bench.product("17", retained=True)), "the answer to our own second subscription"
    bench.give(LinkUp("5"))
    assert not acks(bench.product("17", retained=True))


def test_unknown_lines_and_expired_commands_are_answered(bench: Bench) -> None:
    assert acks(bench.product("17", "line-9"))[0].reason == "unknown_line"
    late = '{"value": "17", "id": "a", "at": "2020-01-01T00:00:00Z", "ttl_s": 5}'
    assert acks(bench.product(late))[0].reason == "expired"


def test_a_repeated_id_gets_the_first_answer_again(bench: Bench) -> None:
    command = '{"value": "17", "id": "a1"}'
    bench.product(command)
    bench.swap()
    first = acks(bench.log)[-1]
    bench.product("bottle-500")
    bench.swap()
    assert acks(bench.product(command)) == [first]
    assert bench.said(READY) == "bottle-500"


def test_choices_and_waiting_commands_outlive_a_restart(bench: Bench) -> None:
    bench.product('{"value": "17", "id": "a1"}')
    kept = snapshot.take(bench.state)
    again = Bench(State.of(plant()))
    snapshot.restore(again.state, kept)
    again.give(Tick(), LinkUp("5"))
    assert assigned(again.give(WorkerUp()))[0] == "label-check:n@1"
    assert [(ack.id, ack.result) for ack in acks(again.swap())] == [("a1", "done")]


def test_an_unknown_product_outlives_a_restart_as_a_fault(bench: Bench) -> None:
    bench.product("mystery")
    again = Bench(State.of(plant()))
    snapshot.restore(again.state, snapshot.take(bench.state))
    again.start()
    line = again.state.lines["line-1"]
    assert (line.published.phase, line.published.ready, line.serving.model) == ("fault", "0", "cap-check:n@3")


def test_a_changeover_whose_model_is_compiled_says_so_until_the_worker_is_lost(bench: Bench) -> None:
    bench.product("17")
    compiling = Preparing("line-1", bench.state.lines["line-1"].assignment.change, on=True)
    phase = "line/line-1/phase"
    assert states(bench.give(compiling), phase) == ["preparing"]
    assert states(bench.lose_worker(), phase) == ["switching"]
    bench.give(WorkerUp())
    assert states(bench.give(compiling), phase) == [], "a report of an earlier assignment"
    assert states(bench.swap(), phase) == ["ready"]
    bench.give(compiling)
    assert bench.said(phase) == "ready", "a report that comes too late"


def test_a_failure_is_still_known_after_an_unknown_product(bench: Bench) -> None:
    bench.model("cap-check:s")
    bench.fail("no_memory")
    bench.product("nothing of ours")
    bench.product("bottle-500")
    assert bench.said("line/line-1/phase") == "degraded"
