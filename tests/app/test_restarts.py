"""Killed in the middle: what was promised is kept by the next process, and answered once."""

import json
import signal
from collections.abc import Callable

import pytest
from support.running_agent import RunningAgent


def finals(agent: RunningAgent, id_: str) -> list[bytes]:
    """Return the final answers of one id, as they were on the wire."""
    said = [one.payload for one in agent.on("ack") if json.loads(one.payload)["id"] == id_]
    return [one for one in said if json.loads(one)["result"] != "accepted"]


def until_accepted(agent: RunningAgent, id_: str) -> None:
    agent.until(lambda: [one for one in agent.answers(id_) if one["result"] == "accepted"])


def kill_and_start(agent: RunningAgent) -> int:
    """Kill control as hard as can be, with its worker frozen; the next one starts at once."""
    agent.kill()
    mark = len(agent.heard)
    agent.start()
    return mark


@pytest.mark.parametrize("topic", ["product/set", "model/set"])
def test_a_pending_command_goes_on_and_is_then_answered(running: RunningAgent, topic: str) -> None:
    value = "17" if topic == "product/set" else "beta"
    command = json.dumps({"value": value, "id": "p1"})
    running.child("inference").send_signal(signal.SIGSTOP)
    running.send(f"line/line-1/{topic}", command)
    until_accepted(running, "p1")
    assert not finals(running, "p1")
    mark = kill_and_start(running)
    running.until(lambda: finals(running, "p1"))
    assert json.loads(finals(running, "p1")[0])["result"] == "done"
    running.until_said("line/line-1/model/state", "beta:n@1", mark)
    running.send(f"line/line-1/{topic}", command)
    running.until(lambda: len(finals(running, "p1")) > 1)
    assert len(set(finals(running, "p1"))) == 1, "repeats are the same, byte for byte"


def test_a_command_overtaken_across_a_restart_is_superseded_once(running: RunningAgent) -> None:
    running.child("inference").send_signal(signal.SIGSTOP)
    running.send("line/line-1/product/set", '{"value": "17", "id": "p1"}')
    until_accepted(running, "p1")
    kill_and_start(running)
    running.until_said("status", "online", len(running.heard))
    running.send("line/line-1/product/set", '{"value": "crate", "id": "p2"}')
    running.until(lambda: finals(running, "p1") and finals(running, "p2"))
    one, two = json.loads(finals(running, "p1")[0]), json.loads(finals(running, "p2")[0])
    assert two["result"] == "done"
    assert (one["result"], one["reason"]) in {("failed", "superseded"), ("done", None)}, "it may have been quicker"
    assert (len(finals(running, "p1")), len(finals(running, "p2"))) == (1, 1)
    running.until(lambda: running.value("line/line-1/ready") == "crate")


def test_killed_at_any_moment_of_a_changeover_it_ends_where_it_was_told(
    make_agent: Callable[..., RunningAgent],
) -> None:
    agent = make_agent()
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    for number, product in enumerate(["17", "bottle-500", "17", "crate"]):
        mark = len(agent.heard)
        agent.send("line/line-1/product/set", json.dumps({"value": product, "id": f"k{number}"}))
        agent.until(lambda: agent.on("line/line-1/ready", mark) or agent.answers(f"k{number}"))  # noqa: B023 - called at once
        kill_and_start(agent)
        agent.until_said("status", "online", mark)
        agent.send("line/line-1/product/set", json.dumps({"value": product, "id": f"k{number}"}))
        agent.until_said("line/line-1/ready", product, mark)
        agent.until(lambda: finals(agent, f"k{number}"))  # noqa: B023 - called at once
    for number in range(4):
        assert len(set(finals(agent, f"k{number}"))) == 1, finals(agent, f"k{number}")
