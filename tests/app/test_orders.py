"""Orders for models over a real broker: fetched from a real server, proven, and serving without a lost frame."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.file_server import FileServer, Served, file_server
from support.running_agent import RunningAgent, model_entry, one_stream

Maker = Callable[..., RunningAgent]
JOB = "job/job-7/state"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


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


def until_state(agent: RunningAgent, state: str, topic: str = JOB) -> dict[str, Any]:
    agent.until(lambda: told(agent, topic)[-1:] == [state])
    return dict(json.loads(agent.value(topic) or "{}"))


def test_an_order_serves_from_the_next_changeover_on_and_no_frame_is_lost(
    make_agent: Maker, server: FileServer, tmp_path: Path
) -> None:
    agent = make_agent(one_stream)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    order(agent, ordered(server, tmp_path))
    waiting = until_state(agent, "waiting")
    assert waiting["models"] == ["alpha:n@2"]
    assert agent.value("line/line-1/model/state") == "alpha:n@1"
    text = (agent.folder / "models.toml").read_text()
    assert "store" in text
    agent.ready("17")
    done = until_state(agent, "done")
    assert (done["rev"], done["reason"]) == (42, None)
    agent.ready("crate")
    agent.until_said("line/line-1/model/state", "alpha:n@2")
    switches = [json.loads(one.payload) for one in agent.on("line/line-1/switch")]
    assert [one["frames_lost"] for one in switches] == [0] * len(switches)
    order_of_states = ["queued", "downloading", "verifying", "preparing", "proving", "waiting", "done"]
    assert [state for state in order_of_states if state in told(agent)] == told(agent)
    assert not any("supply" in " ".join(child.cmdline()) for child in agent_children(agent))


def agent_children(agent: RunningAgent) -> list[Any]:
    import psutil

    return psutil.Process(agent.process.pid).children()
