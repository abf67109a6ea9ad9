"""Orders for models over a real broker: fetched from a real server, proven, and serving without a lost frame."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import tomlkit
from support.file_server import FileServer, Served
from support.running_agent import RunningAgent, model_entry, one_stream

from agent.app.children.supply import MODULE
from agent.bench.plant.children import runs

Maker = Callable[..., RunningAgent]
JOB = "job/job-7/state"
PATIENCE_S = 240.0
"""Because what fetches steps back for everything else that the machine does."""


def ordered(server: FileServer, folder: Path, version: str = "2", letter: str = "a") -> dict[str, Any]:
    """Serve another version of `alpha`; return its entry in an order."""
    there = folder / f"other-{version}"
    there.mkdir(parents=True)
    entry = model_entry(there, "alpha", letter)
    server.files[f"/{version}.onnx"] = Served((there / entry["file"]).read_bytes())
    return entry | {"version": version, "file": server.url(f"/{version}.onnx")}


def order(agent: RunningAgent, *entries: dict[str, Any], **more: object) -> None:
    agent.send("models/set", json.dumps({"id": "job-7", "rev": 42, "models": entries} | more), retain=True)


def told(agent: RunningAgent, topic: str = JOB) -> list[str]:
    """Return the states that a job was in, in order."""
    states = [json.loads(one.payload)["state"] for one in agent.on(topic) if one.payload]
    return [state for number, state in enumerate(states) if number == 0 or states[number - 1] != state]


def switches(agent: RunningAgent) -> list[dict[str, Any]]:
    """Return all reports of changeovers."""
    return [json.loads(one.payload) for one in agent.on("line/line-1/switch")]


def until_state(agent: RunningAgent, state: str, topic: str = JOB) -> dict[str, Any]:
    agent.until(lambda: told(agent, topic)[-1:] == [state], PATIENCE_S)
    return dict(json.loads(agent.value(topic) or "{}"))


def test_an_order_serves_from_the_next_changeover_on_and_no_frame_is_lost(
    make_agent: Maker, server: FileServer, tmp_path: Path
) -> None:
    agent = make_agent(one_stream)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    order(agent, ordered(server, tmp_path))
    agent.until(lambda: "next changeover of line-1" in (agent.value(JOB) or ""), PATIENCE_S)
    assert json.loads(agent.value(JOB) or "")["models"] == ["alpha:n@2"]
    assert agent.value("line/line-1/model/state") == "alpha:n@1"
    assert "store/sha256/" in (agent.folder / "models.toml").read_text()
    agent.ready("17")
    done = until_state(agent, "done")
    assert (done["rev"], done["reason"]) == (42, None)
    agent.ready("crate")
    agent.until_said("line/line-1/model/state", "alpha:n@2", deadline_s=PATIENCE_S)
    assert not any(one["frames_lost"] for one in switches(agent))
    order_of_states = ["queued", "downloading", "verifying", "preparing", "proving", "waiting", "done"]
    assert [state for state in order_of_states if state in told(agent)] == told(agent)
    agent.until(lambda: not any(runs(child, MODULE) for child in psutil.Process(agent.process.pid).children()))


def test_an_order_that_may_not_wait_turns_a_running_line_over_without_a_blind_moment(
    make_agent: Maker, server: FileServer, tmp_path: Path
) -> None:
    agent = make_agent(one_stream)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    mark = len(agent.heard)
    order(agent, ordered(server, tmp_path), activate="now")
    until_state(agent, "done")
    assert agent.value("line/line-1/model/state") == "alpha:n@2"
    assert not agent.on("line/line-1/ready", mark)
    (switch,) = (one for one in switches(agent) if one["to"] == "alpha:n@2")
    assert (switch["result"], switch["blind_ms"], switch["frames_lost"]) == ("switched", 0, 0)
    agent.until(lambda: [answer["result"] for answer in agent.answers("job-7")] == ["accepted", "done"])


def test_a_killed_agent_goes_on_with_its_order_and_every_end_has_a_reason(
    make_agent: Maker, server: FileServer, tmp_path: Path
) -> None:
    agent = make_agent(one_stream)
    agent.until_said("status", "online")
    entry = ordered(server, tmp_path)
    server.files["/2.onnx"].hangs_after = 100
    order(agent, entry, activate="now")
    until_state(agent, "downloading")
    agent.kill()
    server.files["/2.onnx"].hangs_after = None
    mark = len(agent.heard)
    agent.start()
    agent.until(
        lambda: any(json.loads(one.payload)["state"] == "done" for one in agent.on(JOB, mark) if one.payload),
        PATIENCE_S,
    )
    assert agent.value("line/line-1/model/state") == "alpha:n@2"
    wrong = {"id": "job-8", "rev": 43, "models": [entry | {"version": "3", "sha256": "0" * 64}]}
    agent.send("models/set", json.dumps(wrong))
    assert until_state(agent, "failed", "job/job-8/state")["reason"] == "hash_mismatch"
    agent.send("models/set", json.dumps(wrong | {"id": "job-9", "rev": 41}))
    assert until_state(agent, "rejected", "job/job-9/state")["reason"] == "stale"


def test_a_file_that_the_catalog_names_is_fetched_and_the_line_that_waited_serves(
    make_agent: Maker, server: FileServer, tmp_path: Path
) -> None:
    entry = ordered(server, tmp_path)

    def fetched(settings: dict[str, Any]) -> None:
        one_stream(settings)
        catalog = tmp_path / "models.toml"
        document = tomlkit.parse(catalog.read_text())
        document["model"].append(entry)
        catalog.write_text("# the plant's own\n" + tomlkit.dumps(document))

    agent = make_agent(fetched)
    agent.until_said("line/line-1/model/state", "alpha:n@2", deadline_s=PATIENCE_S)
    assert until_state(agent, "done", "job/catalog/state")["rev"] is None
    assert (tmp_path / "models.toml").read_text().startswith("# the plant's own\n")
