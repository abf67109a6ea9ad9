"""Killed in the middle: what was promised is kept by the next process, and answered once."""

import json
import signal

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
def test_a_pending_command_goes_on_and_is_then_answered(shared: RunningAgent, topic: str) -> None:
    value = "17" if topic == "product/set" else "beta"
    id_ = f"pending-{value}"
    command = json.dumps({"value": value, "id": id_})
    shared.child("inference").send_signal(signal.SIGSTOP)
    shared.send(f"line/line-1/{topic}", command)
    until_accepted(shared, id_)
    assert not finals(shared, id_)
    mark = kill_and_start(shared)
    shared.until(lambda: finals(shared, id_))
    assert json.loads(finals(shared, id_)[0])["result"] == "done"
    shared.until_said("line/line-1/model/state", "beta:n@1", mark)
    shared.send(f"line/line-1/{topic}", command)
    shared.until(lambda: len(finals(shared, id_)) > 1)
    assert len(set(finals(shared, id_))) == 1, "repeats are the same, byte for byte"


def test_a_command_overtaken_across_a_restart_is_superseded_once(shared: RunningAgent) -> None:
    shared.child("inference").send_signal(signal.SIGSTOP)
    shared.send("line/line-1/product/set", '{"value": "17", "id": "overtaken"}')
    until_accepted(shared, "overtaken")
    kill_and_start(shared)
    shared.until_said("status", "online", len(shared.heard))
    shared.send("line/line-1/product/set", '{"value": "crate", "id": "overtaking"}')
    shared.until(lambda: finals(shared, "overtaken") and finals(shared, "overtaking"))
    one, two = json.loads(finals(shared, "overtaken")[0]), json.loads(finals(shared, "overtaking")[0])
    assert two["result"] == "done"
    assert (one["result"], one["reason"]) in {("failed", "superseded"), ("done", None)}, "it may have been quicker"
    assert (len(finals(shared, "overtaken")), len(finals(shared, "overtaking"))) == (1, 1)
    shared.until(lambda: shared.value("line/line-1/ready") == "crate")


def test_killed_at_any_moment_of_a_changeover_it_ends_where_it_was_told(shared: RunningAgent) -> None:
    agent = shared
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
