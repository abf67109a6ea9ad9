"""Orders through the one pure function: what is refused, what ends them, and what stays retained."""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.plant_bench import acks, states
from support.scenario import Play

from agent.control.actions import Action, PrepareModel, ReadCatalog
from agent.control.events import SupplyLost
from agent.control.job import Step
from agent.control.orders.jobs import KEPT
from agent.control.orders.room import WAIT_S
from agent.control.orders.steps import JOB_S, STANDSTILL_S, worker_up
from agent.control.plant import Plant
from agent.control.reconciler import Event, reconcile
from agent.control.state import Now
from agent.messages.children import PrepareFailed
from agent.messages.events import Received
from agent.messages.references import ModelReference
from agent.messages.short_lived.supply import EnterModels, FetchFailed, FetchModels

HERE = Path(__file__).parents[1] / "scenarios"
MODEL = {"name": "cap-check", "variant": "n", "version": "4", "file": "https://host/4.onnx", "sha256": "1" * 64}


class Device:
    """A plant whose supply process answers nothing unless it is told to."""

    def __init__(self) -> None:
        self.play = Play(HERE / "order-now")
        self.play._come_up()
        self.play.supply.fetch_s = 1e9

    @property
    def now(self) -> Now:
        return Now(1000.0 + self.play.t, 1.7e9 + self.play.t)

    def send(self, topic: str, content: object) -> list[Action]:
        payload = content if isinstance(content, bytes) else json.dumps(content).encode()
        message = Received(f"{self.play.state.plant.base}/{topic}", payload)
        actions = reconcile(self.play.state, message, self.now)
        for action in actions:
            self.play._perform(action)
        return actions

    def order(self, id_: str = "job-1", rev: int = 1, **more: object) -> list[Action]:
        return self.send("models/set", {"id": id_, "rev": rev, "models": [MODEL]} | more)

    def wait(self, seconds: float) -> None:
        self.play._until(self.play.t + seconds)

    def state(self, id_: str = "job-1") -> dict[str, Any]:
        return dict(json.loads(self.play.state.orders.states[id_]))


@pytest.fixture
def device() -> Device:
    return Device()


def reasons(actions: list[Action]) -> list[tuple[str, str | None]]:
    return [(one.result, one.reason) for one in acks(actions)]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "not_understood"),
        ([], "not_understood"),
        ({"rev": 1, "models": [MODEL]}, "not_understood"),
        ({"id": "catalog", "rev": 1, "models": [MODEL]}, "not_understood"),
        ({"id": "a b", "rev": 1, "models": [MODEL]}, "not_understood"),
        ({"id": "a", "models": [MODEL]}, "not_understood"),
        ({"id": "a", "rev": True, "models": [MODEL]}, "not_understood"),
        ({"id": "a", "rev": 1}, "not_understood"),
        ({"id": "a", "rev": 1, "models": []}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL] * 65}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL, MODEL]}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL], "index": "https://host/index"}, "not_understood"),
        ({"id": "a", "rev": 1, "index": "host/index"}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL | {"unsafe": True}]}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL | {"sha256": "1"}]}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL | {"version": "3"}]}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL], "activate": "soon"}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL], "activate": "window"}, "not_understood"),
        ({"id": "a", "rev": 1, "models": [MODEL], "when": "now"}, "not_understood"),
        ({"id": "a", "rev": 1, "remove": ["cap-check"]}, "not_understood"),
        ({"id": "a", "rev": 1, "remove": ["label-check:n@1", "label-check:m@3"]}, "unknown_model"),
        ({"id": "a", "rev": 1, "models": [MODEL], "pad": "x" * 70_000}, "too_large"),
    ],
)
def test_what_is_no_order_changes_nothing(device: Device, content: object, reason: str) -> None:
    actions = device.send("models/set", content)
    assert reasons(actions) == [("rejected", reason)]
    assert device.play.state.orders.job is None
    assert device.play.state.orders.accepted_rev is None
    device.wait(1.0)
    assert device.play.supply.asked == []


def test_the_same_order_again_changes_nothing_and_an_older_one_is_stale(device: Device) -> None:
    assert reasons(device.order(rev=5)) == [("accepted", None)]
    device.send("cmd/cancel", {"id": "job-1"})
    device.play.state.answers.clear()  # as after a thousand others
    assert reasons(device.order(rev=5)) == [("noop", None)]
    assert reasons(device.order("job-2", rev=5)) == [("rejected", "stale")]
    assert reasons(device.order("job-3", rev=4)) == [("rejected", "stale")]


@pytest.mark.parametrize("more", [{"rev": 6}, {"rev": 5, "activate": "now"}, {"rev": 5, "models": 3}])
def test_the_id_of_a_job_under_way_is_not_taken_for_another_order(device: Device, more: dict[str, Any]) -> None:
    device.order(rev=5)
    device.wait(1.0)
    before, asked = device.state(), list(device.play.supply.asked)
    actions = device.order(**more)
    assert reasons(actions) == [("rejected", "not_understood")]
    assert "job-1 is under way" in (acks(actions)[0].detail or "")
    assert reasons(device.order(rev=5)) == [("accepted", None)], "the same order again gets the same answer"
    device.wait(1.0)
    assert (device.state(), device.play.supply.asked) == (before, asked)


def test_the_newest_states_stay_and_older_ones_are_cleared(device: Device) -> None:
    cleared = []
    for number in range(KEPT + 3):
        actions = device.send("models/set", {"id": f"job-{number}", "rev": number})
        cleared += [id_ for id_ in range(number) if states(actions, f"job/job-{id_}/state") == [""]]
    assert cleared == [0, 1, 2]
    assert len(device.play.state.orders.states) == KEPT


def test_a_source_that_is_away_is_tried_again_until_an_hour_without_progress(device: Device) -> None:
    device.play.supply = type(device.play.supply)(fetch_s=1.0, refuse="source_refused", transient=True)
    device.order()
    device.wait(5.0)
    waiting = device.state()
    assert (waiting["state"], waiting["reason"]) == ("queued", "source_refused")
    assert "tried again in 10 s" in waiting["detail"]
    device.wait(60.0)
    assert len(device.play.supply.asked) == 3  # after 10 s, and after 20 s; the next wait is 40 s
    device.play.t += STANDSTILL_S
    device.wait(30.0)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "source_refused")


def test_no_job_is_under_way_for_ever(device: Device) -> None:
    device.order()
    device.wait(1.0)
    device.play.t += JOB_S
    device.wait(0.5)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "timeout")


def test_a_supply_process_that_dies_again_and_again_ends_the_job(device: Device) -> None:
    device.play.supply.lose = True
    device.play.supply.fetch_s = 1.0
    device.order()
    device.wait(10.0)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "cut_off")
    device.order("job-2", 2)
    device.wait(0.5)
    for _ in range(4):
        reconcile(device.play.state, SupplyLost("no beat", is_hung=True), device.now)
    assert device.state("job-2")["reason"] == "source_hung"


@pytest.mark.parametrize("fetch_s", [1e9, 0.5], ids=["while it is fetched", "while a line is held"])
def test_a_cancelled_order_leaves_nothing(device: Device, fetch_s: float) -> None:
    before = {version.reference for version in device.play.catalog.versions}
    device.play.supply.fetch_s = fetch_s
    device.send("line/line-1/product/set", b"bottle-500")
    device.wait(1.0)
    device.order()
    device.wait(5.0)
    is_entered = any(version.version == "4" for version in device.play.catalog.versions)
    assert is_entered == (fetch_s < 1)
    actions = device.send("cmd/cancel", {"id": "c1", "job": "job-1"})
    assert ("done", None) in reasons(actions)
    device.wait(2.0)
    assert device.state()["state"] == "cancelled"
    assert {version.reference for version in device.play.catalog.versions} == before
    line = device.play.state.lines["line-1"]
    assert (line.published.ready, line.serving.model) == ("bottle-500", "cap-check:n@3")


def test_a_revoked_model_goes_at_the_next_safe_point(device: Device) -> None:
    device.send("line/line-1/product/set", b"bottle-500")
    device.wait(1.0)
    plant = device.play.state.plant
    supply = dataclasses.replace(plant.supply, revoked=("cap-check:n@3",))
    device.play.state.plant = dataclasses.replace(plant, supply=supply)
    device.wait(3.0)
    line = device.play.state.lines["line-1"]
    assert (line.published.ready, line.serving.model) == ("bottle-500", "cap-check:n@3")
    assert device.state("catalog")["state"] == "waiting"
    device.send("line/line-1/product/set", b"17")
    device.wait(1.0)
    device.send("line/line-1/product/set", b"bottle-500")
    device.wait(1.0)
    assert (line.published.ready, line.serving.model) == ("bottle-500", "cap-check:n@2")
    assert device.state("catalog")["state"] == "done"


def with_index(device: Device, **more: Any) -> None:  # noqa: ANN401 - fields of Supply
    plant = device.play.state.plant
    supply = dataclasses.replace(plant.supply, index="https://host/index", **more)
    device.play.state.plant = dataclasses.replace(plant, supply=supply)


def reads(device: Device) -> int:
    """Return the number of times that the index alone was asked for."""
    return sum(isinstance(one, FetchModels) and not one.entries and not one.index for one in device.play.supply.asked)


def test_the_index_is_read_at_the_start_and_each_day(device: Device) -> None:
    device.play.supply.fetch_s = 1.0
    with_index(device)
    device.wait(10.0)
    assert (reads(device), device.state("catalog")["state"]) == (1, "done")
    with_index(device)  # because the catalog was read again
    device.play.t += 86_000.0
    device.wait(10.0)
    assert reads(device) == 1
    device.play.t += 500.0
    device.wait(10.0)
    assert reads(device) == 2


def test_an_index_that_is_away_is_tried_once_an_hour_and_holds_up_nothing(device: Device) -> None:
    device.play.supply = type(device.play.supply)(fetch_s=1.0, refuse="cut_off", transient=True)
    with_index(device, revoked=("label-check:n@1",))
    device.wait(10.0)
    assert (reads(device), device.state("catalog")["state"]) == (1, "done")
    with_index(device)  # because the catalog was read again
    device.play.t += 3500.0
    device.wait(10.0)
    assert reads(device) == 1
    device.play.t += 200.0
    device.wait(10.0)
    assert reads(device) == 2


def test_what_an_index_revokes_is_known_also_where_a_model_of_it_then_fails(device: Device) -> None:
    order = {"id": "job-1", "rev": 1, "index": "https://host/index"}
    device.send("models/set", order)
    device.wait(1.0)
    for is_transient, reads_catalog in ((True, False), (False, True)):
        failure = FetchFailed("job-1", "not_found", "the model is not there", is_transient=is_transient)
        actions = reconcile(device.play.state, failure, device.now)
        assert (ReadCatalog() in actions) is reads_catalog
    assert device.state()["state"] == "failed"


def test_the_index_waits_for_the_window(device: Device) -> None:
    with_index(device, window="22:00-05:00", in_window=lambda _unix_s: False)
    device.wait(10.0)
    assert (reads(device), device.play.state.orders.job) == (0, None)


def test_a_restart_tells_the_state_of_the_job_that_goes_on(device: Device) -> None:
    device.order()
    device.wait(1.0)
    device.play.published.clear()
    device.play._restart({"restart": "whole"})
    device.wait(0.5)
    told = [one["payload"]["state"] for one in device.play.published if one["topic"] == "job/job-1/state"]
    assert told == ["queued"]


def test_what_an_order_removes_goes_last(device: Device) -> None:
    device.play.supply.fetch_s = 0.5
    device.order(remove=["cap-check:n@2"], activate="now")
    device.wait(6.0)
    asked = device.play.supply.asked
    assert [type(one) for one in asked] == [FetchModels, EnterModels, EnterModels]
    assert [one.remove for one in asked if isinstance(one, EnterModels)] == [(), ("cap-check:n@2",)]
    assert device.state()["state"] == "done"


def test_refused_orders_never_clear_the_state_of_the_job_under_way(device: Device) -> None:
    device.order("job-a", 100)
    device.wait(1.0)
    for number in range(KEPT + 3):
        device.send("models/set", {"id": f"job-{number}", "rev": number})
    assert device.state("job-a")["state"] in {"queued", "downloading"}


def _with_rules(device: Device, reference: str) -> None:
    """Have line-1 need a model, as after a reload."""
    line = device.play.state.lines["line-1"]
    found = ModelReference.parse(reference)
    assert found is not None
    line.rules = dataclasses.replace(line.rules, default=found)


def test_a_removal_is_compared_again_with_what_lines_need_by_then(device: Device) -> None:
    device.play.supply.fetch_s = 0.5
    device.send("line/line-1/product/set", b"bottle-500")
    device.wait(1.0)
    device.order(remove=["cap-check:n@2"])
    device.wait(5.0)
    assert device.state()["state"] == "waiting"
    _with_rules(device, "cap-check:n@2")
    device.send("line/line-1/product/set", b"17")
    device.wait(2.0)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "unknown_model")
    assert any(version.reference == "cap-check:n@2" for version in device.play.catalog.versions)


def test_a_cancel_leaves_what_a_line_needs_by_now(device: Device) -> None:
    device.play.supply.fetch_s = 0.5
    device.send("line/line-1/product/set", b"bottle-500")
    device.wait(1.0)
    device.order()
    device.wait(5.0)
    _with_rules(device, "cap-check:n@4")
    assert reasons(device.send("cmd/cancel", {"id": "c1", "job": "job-1"})) == [("noop", None)]
    assert any(version.reference == "cap-check:n@4" for version in device.play.catalog.versions)


def test_a_release_entered_by_hand_meanwhile_ends_the_job_and_not_the_agent(device: Device) -> None:
    device.order()
    device.wait(1.0)
    job = device.play.state.orders.job
    assert job is not None
    job.step = Step.PROVE
    plant = device.play.state.plant

    def refuse(_entries: object, _remove: object) -> Plant:
        raise ValueError("cap-check:n@4 is in the catalog with another sha256")

    supply = dataclasses.replace(plant.supply, amended=refuse)
    device.play.state.plant = dataclasses.replace(plant, supply=supply)
    worker_up(device.play.state, "default", device.now)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "not_understood")


def test_a_window_that_closed_counts_as_no_standstill(device: Device) -> None:
    plant = device.play.state.plant
    is_open = True
    supply = dataclasses.replace(plant.supply, window="22:00-05:00", in_window=lambda _unix_s: is_open)
    device.play.state.plant = dataclasses.replace(plant, supply=supply)
    device.order()
    device.wait(1.0)
    is_open = False
    device.play.t += STANDSTILL_S * 5
    device.wait(0.5)
    is_open = True
    failure = FetchFailed("job-1", "cut_off", "the server was away", is_transient=True)
    reconcile(device.play.state, failure, device.now)
    assert device.state()["state"] == "queued"


def test_a_catalog_that_the_service_cannot_write_is_said_before_anything_is_fetched(device: Device) -> None:
    plant = device.play.state.plant
    supply = dataclasses.replace(plant.supply, closed="/etc/changeover is closed to the service")
    device.play.state.plant = dataclasses.replace(plant, supply=supply)
    assert reasons(device.order()) == [("rejected", "not_understood")]
    assert device.state()["detail"] == "/etc/changeover is closed to the service"
    assert device.play.supply.asked == []


def short_of_memory(device: Device, *, may_fit: bool = True) -> None:
    device.play.supply.fetch_s = 0.5
    device.play.worker.prepare_fail, device.play.worker.prepare_may_fit = "no_memory", may_fit


def test_a_model_that_lacks_memory_waits_for_it(device: Device) -> None:
    short_of_memory(device)
    device.order()
    device.wait(5.0)
    state = device.state()
    assert (state["state"], state["reason"]) == ("waiting", "no_memory")
    assert "tried again in 60 s, and when a line has changed over" in state["detail"]
    device.wait(65.0)
    assert "tried again in 120 s" in device.state()["detail"]
    device.play.worker.prepare_fail = None
    device.wait(125.0)
    assert (device.state()["state"], device.state()["reason"]) == ("done", None)


def test_a_changeover_may_leave_the_memory_that_an_order_lacks(device: Device) -> None:
    short_of_memory(device)
    device.order()
    device.wait(5.0)
    device.play.worker.prepare_fail = None
    device.send("line/line-1/product/set", b"17")
    device.wait(10.0)
    assert device.state()["state"] == "done"


def test_a_model_that_never_fits_fails_at_once_and_one_without_memory_after_a_day(device: Device) -> None:
    short_of_memory(device, may_fit=False)
    device.order()
    device.wait(5.0)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "no_memory")
    short_of_memory(device)
    device.order("job-2", 2)
    device.wait(5.0)
    device.play.t += WAIT_S
    device.wait(5.0)
    assert (device.state("job-2")["state"], device.state("job-2")["reason"]) == ("failed", "no_memory")


def test_the_proven_models_of_an_order_leave_their_memory_to_its_next_one(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.play.supply.fetch_s = 0.5
    held: dict[str, float] = {}
    prepared = device.play.worker.prepared

    def one_at_a_time(action: PrepareModel) -> Iterator[tuple[float, Event]]:
        reference = action.model.reference
        is_full = any(seconds > 0 for other, seconds in held.items() if other != reference)
        held[reference] = 0.0 if is_full else action.hold_s
        if is_full:
            yield 0.1, PrepareFailed(action.line, action.number, reference, "no_memory", "in use", may_fit=True)
        else:
            yield from prepared(action)

    monkeypatch.setattr(device.play.worker, "prepared", one_at_a_time)
    device.order(models=[MODEL, MODEL | {"version": "5", "sha256": "2" * 64}], activate="now")
    device.wait(10.0)
    assert device.state()["state"] == "done"
    assert held["cap-check:n@4"] == 0


def test_an_order_of_another_release_ends_and_the_agent_goes_on(device: Device) -> None:
    device.order()
    device.wait(1.0)
    job = device.play.state.orders.job
    assert job is not None
    job.entries = (json.dumps(MODEL | {"a_key": "of another release"}).encode(),)
    device.play._restart({"restart": "whole"})
    device.wait(1.0)
    assert (device.state()["state"], device.state()["reason"]) == ("failed", "not_understood")
    assert "kept by another release" in device.state()["detail"]
    assert device.play.state.orders.job is None


def test_what_came_before_a_model_of_the_catalog_that_fails_is_taken(device: Device) -> None:
    plant = device.play.state.plant
    supply = dataclasses.replace(plant.supply, missing=(json.dumps(MODEL).encode(),))
    device.play.state.plant = dataclasses.replace(plant, supply=supply)
    device.wait(1.0)
    failure = FetchFailed("catalog", "not_found", "the second one is not there", is_transient=False)
    actions = reconcile(device.play.state, failure, device.now)
    assert ReadCatalog() in actions
