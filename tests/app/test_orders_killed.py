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
"""About as long as an order takes from its message to its end, or an agent from its start to going on with it."""
KILLS_AN_ORDER = 5
LOSSES_A_JOB_SURVIVES = 3
"""Of the supply process, in a row."""


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


def require_sound(store: Path) -> None:
    """Hold that no release of the store is other than its name says, at whatever moment it is looked at."""
    for found in store.glob("sha256/*/model.onnx"):
        with suppress(FileNotFoundError):  # because a new agent may collect one just now
            assert hashlib.sha256(found.read_bytes()).hexdigest() == found.parent.name


@pytest.mark.parametrize("moments", [3, pytest.param(500, marks=[pytest.mark.soak, pytest.mark.timeout(5400)])])
def test_at_random_moments(
    make_agent: Callable[..., RunningAgent], server: FileServer, tmp_path: Path, moments: int
) -> None:
    chance = random.Random(moments)
    agent = make_agent(one_stream)
    store = agent.folder / "store"
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    version, left = 1, moments
    while left:
        version += 1
        entry = another(server, tmp_path, version)
        order = {"id": f"job-{version}", "rev": version, "models": [entry], "activate": "now"}
        agent.send("models/set", json.dumps(order), retain=True)
        losses = 0
        for _ in range(min(left, KILLS_AN_ORDER)):
            left -= 1
            time.sleep(chance.uniform(0, LONGEST_S))  # the moment is what is drawn
            who = chance.choice(("agent", "both", "supply") if losses < LOSSES_A_JOB_SURVIVES else ("agent", "both"))
            losses = losses + 1 if who == "supply" else 0
            kill(agent, who)
            require_sound(store)

        def is_done(topic: str = f"job/job-{version}/state") -> bool:
            state = json.loads(agent.value(topic) or "{}").get("state")
            assert state not in {"failed", "rejected", "superseded", "cancelled"}, agent.value(topic)
            return bool(state == "done")

        agent.until(is_done)
        require_sound(store)
        assert [path.name for path in store.glob(".parts/*")] == ["lock"]
        assert not list(store.glob(".draft*"))
        agent.until_said("line/line-1/model/state", f"alpha:n@{version}")
        agent.heard.clear()
