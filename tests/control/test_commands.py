"""Each command gets one final answer, whatever else comes: repeated, overtaken, refused, restarted, retained."""

import json
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from support.plant_bench import BASE, Bench, acks, alerts, assigned, plant, states, switches

from agent.control import snapshot
from agent.control.actions import Action, Answer, AssignLine, PublishState, SaveSnapshot
from agent.control.events import Reloaded, StreamChanged, Tick, WorkerUp
from agent.control.state import State
from agent.messages.events import LinkUp, Received, Reply
from agent.messages.payloads import Ack

READY = "line/line-1/ready"


def words(actions: list[Action]) -> list[tuple[str | None, str, str | None]]:
    """Return (id, result, reason) of each answer."""
    return [(one.id, one.result, one.reason) for one in acks(actions)]


def send(bench: Bench, topic: str, *, retained: bool = False, **content: Any) -> list[Action]:  # noqa: ANN401 - JSON
    return bench.give(Received(f"{BASE}/{topic}", json.dumps(content).encode(), retained, Reply("me", b"1")))


def restarted(bench: Bench) -> Bench:
    """Return the plant of the next boot, from what was written to disk."""
    kept = msgspec.json.decode(msgspec.json.encode(snapshot.take(bench.state)), type=snapshot.Snapshot)
    again = Bench(State.of(plant()))
    snapshot.restore(again.state, kept)
    again.give(Tick(), LinkUp("5"))
    return again


def bring_up(bench: Bench) -> list[Action]:
    actions = bench.give(WorkerUp()) + bench.swap("line-1") + bench.swap("line-2")
    return actions + bench.give(*(StreamChanged(stream, "online") for stream in bench.state.streams))


def test_a_repetition_waits_for_the_same_end(bench: Bench) -> None:
    bench.product("big")
    bench.swap()
    bench.model("cap-check:n")
    bench.swap()
    bench.model("cap-check:s")
    bench.swap()
    assert words(send(bench, "cmd/rollback", id="r1", line="line-1")) == [("r1", "accepted", None)]
    again = send(bench, "cmd/rollback", id="r1", line="line-1")
    assert words(again) == [("r1", "accepted", None)]
    assert not assigned(again), "it is the same rollback, not one more"
    assert words(bench.swap()) == [("r1", "done", None)] * 2
    assert words(send(bench, "cmd/rollback", id="r1", line="line-1")) == [("r1", "done", None)]


def test_a_superseded_command_repeated_stays_superseded(bench: Bench) -> None:
    send(bench, "line/line-1/product/set", id="p1", value="17")
    assert ("p1", "failed", "superseded") in words(send(bench, "line/line-1/product/set", id="p2", value="big"))
    late = send(bench, "line/line-1/product/set", id="p1", value="17")
    assert words(late) == [("p1", "failed", "superseded")]
    assert not assigned(late)


def test_what_cannot_be_read_is_answered_as_its_id_was_before(bench: Bench) -> None:
    send(bench, "line/line-1/product/set", id="p1", value="bottle-500")
    odd = send(bench, "line/line-1/product/set", id="p1", value=None)
    assert words(odd) == [("p1", "done", None)]


def test_a_command_that_turns_out_to_be_retained_keeps_its_first_answer(bench: Bench) -> None:
    bench.product("big")
    bench.swap()
    first = send(bench, "cmd/rollback", id="r1", line="line-1")
    bench.give(LinkUp("5"))
    assert acks(send(bench, "cmd/rollback", retained=True, id="r1", line="line-1")) == acks(first)
    fresh = send(bench, "cmd/rollback", retained=True, id="r2", line="line-1")
    assert words(fresh) == [("r2", "rejected", "retained")]


@pytest.mark.parametrize("reason", ["timeout", "load_failed"])
def test_a_first_changeover_that_does_not_end_is_answered_in_time(reason: str) -> None:
    bench = Bench()
    bench.give(Tick(), LinkUp("5"), WorkerUp(), *(StreamChanged(stream, "online") for stream in plant().streams))
    send(bench, "line/line-1/product/set", id="p1", value="17")
    ended = bench.wait(31) if reason == "timeout" else bench.fail("load_failed")
    assert ("p1", "failed", reason) in words(ended)
    assert bench.said("line/line-1/phase") == "fault"
    assert ("swap_failed", True) in [(one.code, one.on) for one in alerts(ended)]
    bench.product("17")
    back = bench.swap()
    assert states(back, READY) == ["17"]
    assert [(one.code, one.on, one.line) for one in alerts(back)] == [("swap_failed", False, "line-1")]


def test_a_late_first_model_serves_all_the_same() -> None:
    bench = Bench()
    bench.give(Tick(), LinkUp("5"), WorkerUp(), *(StreamChanged(stream, "online") for stream in plant().streams))
    bench.product("17")
    bench.wait(31)
    assert states(bench.swap(), READY) == ["17"]
    assert bench.said("line/line-1/phase") == "ready"


def test_a_restart_in_the_middle_answers_what_was_pending(bench: Bench) -> None:
    send(bench, "line/line-1/product/set", id="p1", value="17")
    send(bench, "line/line-2/prepare", id="q1", value="big")
    again = restarted(bench)
    repeated = send(again, "line/line-1/product/set", id="p1", value="17")
    assert words(repeated) == [("p1", "accepted", None)]
    assert ("p1", "done", None) in words(bring_up(again))
    assert ("q1", "accepted", None) in words(again.log), "it is asked for again"


def test_a_command_overtaken_before_the_new_worker_is_up_is_superseded(bench: Bench) -> None:
    send(bench, "line/line-1/product/set", id="p1", value="17")
    again = restarted(bench)
    newer = send(again, "line/line-1/product/set", id="p2", value="big")
    assert words(newer) == [("p1", "failed", "superseded"), ("p2", "accepted", None)]
    assert ("p2", "done", None) in words(bring_up(again))
    assert [one.id for one in acks(again.log) if one.result != "accepted"] == ["p1", "p2"]


def test_the_same_product_before_the_worker_is_up_is_answered_when_it_serves(bench: Bench) -> None:
    bench.product("17")
    bench.swap()
    again = restarted(bench)
    assert words(send(again, "line/line-1/product/set", id="p9", value="17")) == [("p9", "accepted", None)]
    assert [one for one in words(bring_up(again)) if one[1] != "accepted"] == [("p9", "done", None)]
    assert again.said(READY) == "17"


def test_what_is_answered_is_on_disk_and_what_cannot_wait_goes_before(bench: Bench) -> None:
    send(bench, "line/line-1/product/set", id="p1", value="17")
    actions = send(bench, "line/line-1/product/set", id="p2", value="big")
    steps = [type(one).__name__ for one in actions if isinstance(one, (AssignLine, Answer, SaveSnapshot))]
    assert steps == ["AssignLine", "SaveSnapshot", "Answer", "Answer"]
    done = bench.swap()
    kinds = [one.topic if isinstance(one, PublishState) else type(one).__name__ for one in done]
    assert kinds.index(READY) < kinds.index("SaveSnapshot") < kinds.index("Answer")


def test_a_final_answer_that_the_killed_process_may_not_have_said_is_said_by_the_next(bench: Bench) -> None:
    send(bench, "line/line-1/product/set", id="p1", value="17")
    bench.swap()
    again = restarted(bench)
    assert [one for one in words(again.log) if one[1] != "accepted"] == [("p1", "done", None)]
    assert not acks(again.give(LinkUp("5"))), "once is enough"


def test_a_flood_of_refusals_is_written_once_a_second_and_one_without_id_never(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.wait(2)
    bench.log.clear()
    for number in range(400):
        bench.now_s += 0.01
        bench.give(Tick())
        bench.product(f"mystery-{number}")
    assert 3 <= len([one for one in bench.log if isinstance(one, SaveSnapshot)]) <= 5
    bench.product("bottle-500")
    bench.wait(2)
    bench.log.clear()
    for _ in range(400):
        bench.now_s += 0.01
        bench.product("bottle-500")
        bench.give(Tick())
    assert not [one for one in bench.log if isinstance(one, SaveSnapshot)]
    assert not states(bench.log, READY)


def test_an_answer_without_a_change_outlives_a_restart_too(bench: Bench) -> None:
    bench.product("bottle-500")
    first = send(bench, "line/line-1/product/set", id="n1", value="bottle-500")
    assert words(first) == [("n1", "noop", None)]
    assert any(isinstance(one, SaveSnapshot) for one in first)
    again = restarted(bench)
    assert acks(send(again, "line/line-1/product/set", id="n1", value="bottle-500")) == acks(first)


def test_strangers_long_topics_and_words_are_not_kept(bench: Bench) -> None:
    for number in range(2000):
        send(bench, f"line/{'y' * 60_000}/product/set", id=f"a{number}", value="17")
        send(bench, f"line/{'y' * 60_000}{number}/product/set", retained=True, id=f"b{number}", value="17")
    kept = msgspec.json.encode(snapshot.take(bench.state))
    assert len(kept) < 100_000
    assert all(len(topic) < 1000 for topic in bench.state.probed)


def test_a_detail_can_always_be_sent(bench: Bench) -> None:
    rule = {"line": "line-1", "days": "mon", "from": "06:00", "to": "07:00", "timezone": "\ud800", "variant": "n"}
    for content in ([rule | {"\ud800": 1}], [rule], {"value": "\ud800", "id": "x"}):
        payload = json.dumps(content).encode()
        answers = acks(bench.give(Received(f"{BASE}/schedule/set", payload)))
        assert [one.result for one in answers] == ["rejected"]
        assert msgspec.json.decode(msgspec.json.encode(answers[0]), type=Ack) == answers[0]
        assert len(answers[0].detail or "") <= 500


def test_a_cleared_retained_product_is_forgotten_and_the_next_one_is_a_command(bench: Bench) -> None:
    bench.product("17", retained=True)
    bench.swap()
    assert not acks(bench.product(""))
    bench.product("bottle-500")
    bench.swap()
    bench.give(LinkUp("5"))
    assert [one.result for one in acks(bench.product("17", retained=True))] == ["accepted"]


def test_what_a_probe_shows_is_written_down(bench: Bench) -> None:
    bench.product("17")
    bench.swap()
    bench.wait(2)
    bench.product("17", retained=True)
    assert any(isinstance(one, SaveSnapshot) for one in bench.wait(1.25))
    again = restarted(bench)
    assert not acks(again.product("17", retained=True))


def test_an_operators_changeover_outlives_an_unknown_product(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.model('{"value": "label-check", "id": "m1"}')
    unknown = bench.product("mystery")
    assert words(unknown) == [(None, "rejected", "unknown_product")]
    assert not assigned(unknown)
    assert words(bench.swap()) == [("m1", "done", None)]
    assert bench.said("line/line-1/model/state") == "label-check:n@1"
    assert bench.said(READY) == "0"


def test_the_same_product_under_an_operator_is_overridden_too(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.model("label-check")
    bench.swap()
    assert words(bench.product("bottle-500")) == [(None, "noop", "overridden")]


def test_a_rollback_holds_while_the_plc_repeats_its_product_and_ends_with_the_next(bench: Bench) -> None:
    bench.product("big")
    bench.swap()
    bench.model("cap-check:n")
    bench.swap()
    bench.model("auto")
    bench.swap()
    send(bench, "cmd/rollback", id="r1", line="line-1")
    bench.swap()
    rolled_back = bench.said("line/line-1/model/state")
    assert rolled_back == "cap-check:n@3"
    assert bench.said(READY) == "0", "the product names its variant: another one is not ready"
    bench.product("big")
    bench.wait(5)
    assert bench.said("line/line-1/model/state") == rolled_back
    bench.product("17")
    bench.swap()
    bench.product("big")
    bench.swap()
    assert bench.said("line/line-1/model/state") == "cap-check:s@3"


def test_a_reload_that_takes_the_product_away_stops_the_line_and_one_that_brings_it_back_lets_it_go_on(
    bench: Bench,
) -> None:
    bench.product("bottle-500")
    full = plant()
    rules = full.lines["line-1"]
    fewer = {name: model for name, model in rules.products.items() if name != "bottle-500"}
    without = replace(full, lines={**full.lines, "line-1": replace(rules, products=fewer)})
    gone = bench.give(Reloaded(without))
    assert states(gone, READY) == ["0"]
    assert bench.said("line/line-1/phase") == "fault"
    assert [(one.code, one.on) for one in alerts(gone)] == [("unknown_product", True)]
    back = bench.give(Reloaded(full))
    assert states(back, READY) == ["bottle-500"]
    assert bench.said("line/line-1/phase") == "ready"
    assert bench.said("alerts") == "[]"


def test_a_reload_under_way_is_answered_after_a_restart(bench: Bench) -> None:
    assert words(send(bench, "cmd/reload", id="l1")) == [("l1", "accepted", None)]
    again = restarted(bench)
    assert words(again.give(Reloaded(plant()))) == [("l1", "done", None)]


def test_switch_reports_one_a_change(bench: Bench) -> None:
    bench.product("17")
    bench.swap()
    bench.product("17")
    bench.product("big")
    bench.product("mystery")
    bench.product("big")
    bench.swap()
    seen = [(one.product, one.result) for one in switches(bench.log)]
    assert seen == [("17", "switched"), ("big", "superseded"), ("mystery", "rejected"), ("big", "switched")]
