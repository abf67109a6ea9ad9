"""Agent, supply process, or both, killed at random moments of an order, which is done all the same."""

import hashlib
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import onnx
import psutil
import pytest
from support.file_server import FileServer, Served
from support.running_agent import RunningAgent, model_entry, one_stream

from agent.app.children.supply import MODULE

LONGEST_S = 2.0
"""About as long as an order takes from its message to its end."""


def another(server: FileServer, folder: Path, number: int) -> dict[str, Any]:
    """Serve a version of `alpha` whose bytes no other has; return its entry in an order."""
    there = folder / f"other-{number}"
    there.mkdir()
    entry = model_entry(there, "alpha", "a")
    model = onnx.load(there / entry["file"])
    model.doc_string = f"version {number}"
    content = model.SerializeToString()
    server.files[f"/{number}.onnx"] = Served(content, pause_s=0.05)
    sha256 = hashlib.sha256(content).hexdigest()
    return entry | {"version": str(number), "file": server.url(f"/{number}.onnx"), "sha256": sha256}


def kill(agent: RunningAgent, who: str) -> None:
    """Kill the agent, its supply process or both, and start the agent where it was killed."""
    victims = []
    if who != "supply":
        victims.append(psutil.Process(agent.process.pid))
    if who != "agent":
        with suppress(IndexError):
            victims.append(agent.child(MODULE))
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    if who != "supply":
        agent.process.wait()
        agent.start()


@pytest.mark.parametrize("moments", [3, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])])
def test_at_random_moments(
    make_agent: Callable[..., RunningAgent], server: FileServer, tmp_path: Path, moments: int
) -> None:
    chance = random.Random(moments)
    agent = make_agent(one_stream)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    for number in range(2, moments + 2):
        entry = another(server, tmp_path, number)
        order = {"id": f"job-{number}", "rev": number, "models": [entry], "activate": "now"}
        agent.send("models/set", json.dumps(order), retain=True)
        time.sleep(chance.uniform(0, LONGEST_S))  # the moment is what is drawn
        kill(agent, chance.choice(("agent", "supply", "both")))

        def is_done(topic: str = f"job/job-{number}/state") -> bool:
            state = json.loads(agent.value(topic) or "{}").get("state")
            assert state not in {"failed", "rejected", "superseded", "cancelled"}, agent.value(topic)
            return bool(state == "done")

        agent.until(is_done)
        store = agent.folder / "store"
        for found in store.glob("sha256/*/model.onnx"):
            assert hashlib.sha256(found.read_bytes()).hexdigest() == found.parent.name
        assert [path.name for path in store.glob(".parts/*")] == ["lock"]
        assert not list(store.glob(".draft*"))
    agent.until_said("line/line-1/model/state", f"alpha:n@{moments + 1}")
