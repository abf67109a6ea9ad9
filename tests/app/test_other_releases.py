"""State that another release of the agent has written: what this one does not know costs itself alone."""

import json
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.scenario import Play

from agent.app.state_disk.record_log import RecordLog
from agent.app.state_disk.snapshot_file import SnapshotFile
from agent.control import snapshot
from agent.control.actions import AskSupply, PublishState, SaveSnapshot
from agent.control.events import CatalogRead, Tick
from agent.control.job import Step
from agent.control.orders import steps
from agent.control.reconciler import reconcile
from agent.control.snapshot import Snapshot
from agent.control.state import Now, State
from agent.messages.events import Received

SCENARIO = Path(__file__).parents[1] / "scenarios" / "order-now"
MODEL = {"name": "cap-check", "variant": "n", "version": "4", "file": "https://host/4.onnx", "sha256": "1" * 64}


@pytest.fixture
def play() -> Play:
    """Start a device with a rejected order, one under way, and a line with a product."""
    play = Play(SCENARIO)
    play._come_up()
    play.supply.fetch_s = 1e9
    line = next(iter(play.state.lines))
    product = next(iter(play.state.lines[line].rules.products))
    for topic, content in (
        (f"line/{line}/product/set", {"id": "cmd-1", "value": product}),
        ("models/set", {"id": "job-0", "rev": "none"}),
        ("models/set", {"id": "job-1", "rev": 7, "models": [MODEL]}),
    ):
        play._give(Received(f"{play.state.plant.base}/{topic}", json.dumps(content).encode()))
    play._until(play.t + 2.0)
    assert play.state.orders.job is not None
    return play


def written(play: Play, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the play's snapshot as another release would have written it."""
    content = dict(json.loads(msgspec.json.encode(snapshot.take(play.state))))
    change(content)
    return content


def loaded(folder: Path, content: dict[str, Any]) -> Snapshot:
    """Return what an agent finds at its start."""
    (folder / "control.json").write_text(json.dumps(content))
    file = SnapshotFile(folder)
    try:
        return file.load()
    finally:
        file.close()


def restarted(play: Play, kept: Snapshot) -> tuple[State, dict[str, dict[str, Any]]]:
    """Return the state after a restart, and what it published of jobs at its first tick."""
    state = State.of(play.plant())
    snapshot.restore(state, kept)
    actions = reconcile(state, Tick(), Now(1000.0, 1.7e9))
    told = {one.topic: one.payload for one in actions if isinstance(one, PublishState) if one.topic.startswith("job/")}
    return state, {topic.split("/")[1]: json.loads(payload) for topic, payload in told.items()}


def unknown_step(content: dict[str, Any]) -> None:
    content["orders"]["job"]["step"] = "polish"


def no_step(content: dict[str, Any]) -> None:
    del content["orders"]["job"]["step"]


def unknown_state(content: dict[str, Any]) -> None:
    content["orders"]["job"]["state"] = "polishing"


@pytest.mark.parametrize("change", [unknown_step, no_step, unknown_state])
def test_a_job_in_an_unknown_step_ends_with_a_reason_and_all_else_lives(
    play: Play, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    line = next(iter(play.state.lines))
    product = play.state.lines[line].selection.product
    assert product is not None
    state, told = restarted(play, loaded(tmp_path, written(play, change)))
    assert (told["job-1"]["state"], told["job-1"]["reason"]) == ("failed", "not_understood")
    assert "another release" in told["job-1"]["detail"]
    assert told["job-1"]["rev"] == 7
    assert told["job-0"]["state"] == "rejected"
    assert (state.orders.job, state.orders.accepted_rev) == (None, 7)
    assert state.lines[line].selection.product == product
    (new,) = set(state.answers) - set(play.state.answers)
    assert new[2] == "job-1"
    answer = state.answers[new]
    assert (answer.result, answer.reason) == ("failed", "not_understood")


@pytest.mark.parametrize("step", ["prove", "open", "enter", "turn"])
def test_a_job_of_unknown_models_does_nothing_before_it_ends(play: Play, tmp_path: Path, step: str) -> None:
    def change(content: dict[str, Any]) -> None:
        entries = [b64encode(b'{"odd": 1}').decode()]
        content["orders"]["job"] |= {"step": step, "entries": entries, "remove": ["cap-check:n@3"]}

    kept = loaded(tmp_path, written(play, change))
    state, now = State.of(play.plant()), Now(1000.0, 1.7e9)
    snapshot.restore(state, kept)
    assert state.orders.job is not None
    assert state.orders.job.unreadable
    begun = [steps.worker_up(state, group, now) for group in {one.rules.group for one in state.lines.values()}]
    begun.append(steps.catalog_read(state, CatalogRead(state.plant), now))
    assert not [one for actions in begun for one in actions if isinstance(one, AskSupply | SaveSnapshot)]
    assert state.orders.job.step is Step.FETCH
    reconcile(state, Tick(), now)
    assert state.orders.job is None


def test_it_ends_also_where_only_the_log_has_it(play: Play, tmp_path: Path) -> None:
    content = written(play, unknown_step)
    loaded(tmp_path, written(play, lambda content: content.pop("orders")))
    log = max(tmp_path.glob("control-*.log"))
    record = RecordLog(log, log.stat().st_size)
    record.append(json.dumps({"orders": content["orders"]}).encode())
    record.close()
    file = SnapshotFile(tmp_path)
    kept = file.load()
    file.close()
    state, told = restarted(play, kept)
    assert told["job-1"]["state"] == "failed"
    assert not any(line.selection.is_lost for line in state.lines.values())


def test_an_unknown_reason_costs_its_own_answer_alone(play: Play, tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        first = next(one for one in content["answers"])
        content["answers"].append({"topic": "cmd/x", "ack": dict(first["ack"], id="cmd-9", result="polished")})
        content["reloading"] = [{"id": "r-1", "topic": "cmd/reload", "odd": 1}, {"topic": 5}]

    state, _ = restarted(play, loaded(tmp_path, written(play, change)))
    assert {id_ for _, _, id_ in play.state.answers} <= {id_ for _, _, id_ in state.answers}
    assert "cmd-9" not in {id_ for _, _, id_ in state.answers}


def test_a_comparison_in_an_unknown_mode_leaves_its_line_as_it_is(play: Play, tmp_path: Path) -> None:
    line = next(iter(play.state.lines))

    def change(content: dict[str, Any]) -> None:
        content["lines"][line]["comparison"] = {"candidate": "cap-check:n@4", "mode": "mirror"}

    state, _ = restarted(play, loaded(tmp_path, written(play, change)))
    assert state.lines[line].comparison is None
    assert state.lines[line].selection.product == play.state.lines[line].selection.product


def test_a_choice_that_cannot_be_read_is_no_choice(play: Play, tmp_path: Path) -> None:
    """A line without it would serve what nobody chose."""
    line = next(iter(play.state.lines))

    def change(content: dict[str, Any]) -> None:
        content["lines"][line]["operator"] = {"kind": "pinned"}

    state, _ = restarted(play, loaded(tmp_path, written(play, change)))
    assert state.lines[line].selection.product is None
    assert state.lines[line].selection.is_lost


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff"])
def test_what_is_no_snapshot_is_set_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "control.json").write_bytes(content)
    file = SnapshotFile(tmp_path)
    assert file.load() == Snapshot()
    file.close()
    assert (tmp_path / "control.damaged.json").read_bytes() == content
