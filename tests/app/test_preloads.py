"""A whole agent that preloads what is likely next, also after a restart, and says so."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from support.running_agent import RunningAgent, one_stream

pytestmark = pytest.mark.soak  # preloads wait for idle cores, which other tests beside it leave none of

RESTED = {"alpha:n@1": "active", "beta:n@1": "preloaded"}


def preloads(settings: dict[str, Any]) -> None:
    one_stream(settings)
    settings["device"]["preload"] = True


def states(agent: RunningAgent) -> dict[str, str]:
    said = json.loads(agent.value("cache") or '{"models": []}')
    return {one["model"]: one["state"] for one in said["models"]}


def test_what_is_likely_is_in_memory_before_it_is_asked_for_also_after_a_restart(
    make_agent: Callable[..., RunningAgent],
) -> None:
    agent = make_agent(preloads)
    agent.until(lambda: states(agent) == RESTED)
    mark = agent.ready("17")
    agent.until(lambda: agent.on("line/line-1/switch", mark))
    assert json.loads(agent.on("line/line-1/switch", mark)[0].payload)["residency"] == "resident"
    agent.ready("bottle-500")
    agent.until(lambda: states(agent) == {"alpha:n@1": "active", "beta:n@1": "resident"})
    agent.stop()
    agent.heard.clear()
    agent.start()
    agent.until(lambda: states(agent) == RESTED)
    kept = json.loads((agent.folder / "state" / "control.json").read_bytes())
    assert kept["learned_orders"]["line-1"]["products"][-2:] == ["17", "bottle-500"]
