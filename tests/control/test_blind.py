"""A line without a model: how long it is said to have been so, and that it does not stay so for want of asking."""

from support.plant_bench import Bench, alerts, assigned, switches

from agent.control.events import StreamChanged, Tick, WorkerUp
from agent.messages.children import Breaking, SwapFailed
from agent.messages.events import LinkUp

READY = "line/line-1/ready"


def test_a_line_on_which_nothing_serves_asks_again_for_what_served_before(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    line = bench.state.lines["line-1"]
    bench.give(Breaking("line-1", line.assignment.change))
    bench.give(
        SwapFailed(
            "line-1", line.assignment.change, "label-check:n@1", None, "no_memory", "nor does the old one come back"
        )
    )
    assert bench.said("line/line-1/model/state") == "none"
    assert not assigned(bench.wait(9.5)), "not at once"
    assert assigned(bench.wait(1.0)) == ["cap-check:n@3"]
    assert not assigned(bench.wait(30.0)), "and not again before it is answered"
    bench.fail("no_memory")
    assert assigned(bench.wait(10.5)) == ["cap-check:n@3"]
    done = bench.swap()
    assert bench.said("line/line-1/model/state") == "cap-check:n@3"
    assert (bench.said(READY), bench.said("line/line-1/phase")) == ("0", "fault"), "what was asked for does not serve"
    assert not switches(done)


def test_a_first_model_that_comes_late_takes_its_fault_back() -> None:
    bench = Bench()
    bench.give(Tick(), LinkUp("5"), WorkerUp())
    bench.give(*(StreamChanged(stream, "online") for stream in bench.state.streams))
    bench.product("bottle-500")
    bench.fail("no_memory")
    assert bench.said("line/line-1/phase") == "fault"
    assert assigned(bench.wait(10.5)) == ["cap-check:n@3"]
    done = bench.swap()
    assert (bench.said(READY), bench.said("line/line-1/phase")) == ("bottle-500", "ready")
    assert [(one.code, one.on) for one in alerts(done)] == [("swap_failed", False)]


def test_blind_time_is_declared_where_the_swap_failed(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.product("17")
    line = bench.state.lines["line-1"]
    bench.give(Breaking("line-1", line.assignment.change))
    bench.wait(2.0)
    (report,) = switches(
        bench.give(
            SwapFailed("line-1", line.assignment.change, "label-check:n@1", "cap-check:n@3", "proof_failed", "no")
        )
    )
    assert (report.result, report.order, report.blind_ms) == ("failed", "break-before-make", 2000.0)
    bench.product("17")
    (report,) = switches(bench.swap())
    assert (report.result, report.order, report.blind_ms) == ("switched", "make-before-break", 0.0)


def test_blind_time_counts_from_the_loss_of_the_worker(bench: Bench) -> None:
    bench.product("bottle-500")
    bench.wait(1.0)
    bench.product("17")
    bench.lose_worker()
    bench.wait(3.0)
    bench.give(WorkerUp())
    (report,) = switches(bench.swap())
    assert (report.result, report.order, report.blind_ms) == ("switched", "break-before-make", 3000.0)
    bench.lose_worker()
    bench.wait(1.5)
    bench.give(WorkerUp())
    (report,) = switches(bench.swap())
    assert (report.cause.rule, report.blind_ms) == ("recovery", 1500.0)
