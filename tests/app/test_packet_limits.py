"""Whole agents with brokers that take only short messages: lines turn over, and one alert names the topic."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto, settings_of
from support.running_agent import BASE, RunningAgent
from support.waiting import together

from agent.mqtt.blocking_client import connected

LIVES = 8
"""So many heartbeats without a new connection in between show that nothing closes it any more."""
MakeAgent = Callable[[str, str], RunningAgent]


@pytest.fixture
def agent_at(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path) -> Iterator[MakeAgent]:
    """`agent_at(protocol, limit)` starts an agent whose broker has that line in its configuration."""
    with ExitStack() as stack:

        def make(protocol: str, limit: str) -> RunningAgent:
            def speaking(settings: dict[str, Any]) -> None:
                settings["mqtt"]["protocol"] = protocol

            broker = make_mosquitto(more=(limit,))
            peer = stack.enter_context(connected(settings_of(broker.url, "plc")))
            agent = RunningAgent(tmp_path / limit, broker.url, peer, speaking)
            stack.callback(agent.kill)
            agent.start()
            return agent

        yield make


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_exceeds_a_limit_is_left_out_and_the_line_turns_over(agent_at: MakeAgent, protocol: str) -> None:
    """Each limit has an agent of its own."""
    cases: dict[str, Callable[[RunningAgent, str], None]] = {
        "max_packet_size 600": _health_is_left_out_by_one_alert,
        "max_packet_size 1000": _health_is_left_out_by_one_alert,
        "max_packet_size 4096": _nothing_is_noticed,
        "message_size_limit 600": _nobody_can_tell,
    }
    agents = {limit: agent_at(protocol, limit) for limit in cases}
    together({limit: partial(case, agents[limit], protocol) for limit, case in cases.items()})


def _health_is_left_out_by_one_alert(agent: RunningAgent, protocol: str) -> None:
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    code = "message_too_large" if protocol == "5" else "broker_refused"
    agent.until(lambda: f"{BASE}/health" in _standing(agent).get(code, ""))
    if protocol == "3.1.1":
        agent.until(lambda: "left out" in _standing(agent).get(code, ""))
    _until_it_stands(agent)
    agent.ready("17")
    agent.until(lambda: set(_standing(agent)) == {code})  # on a busy machine a camera may be away for a moment
    assert "duplicate_device" not in agent.log()


def _nothing_is_noticed(agent: RunningAgent, _protocol: str) -> None:
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.until(lambda: agent.on("health"))
    agent.ready("17")
    codes = {json.loads(one.payload)["code"] for one in agent.on("alert")}
    assert not codes & {"message_too_large", "broker_refused"}


def _nobody_can_tell(agent: RunningAgent, _protocol: str) -> None:
    """Mosquitto drops what is longer than `message_size_limit`; of `health`, which has no answer, nobody can tell."""
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.ready("17")
    _until_it_stands(agent)
    assert "duplicate_device" not in agent.log()


def _standing(agent: RunningAgent) -> dict[str, str]:
    """Return the details of the alerts that are on, by code."""
    found: dict[str, str] = {}
    for one in agent.on("alert"):
        alert = json.loads(one.payload)
        if alert["on"]:
            found[alert["code"]] = alert["detail"]
        else:
            found.pop(alert["code"], None)
    return found


def _until_it_stands(agent: RunningAgent) -> None:
    def connections() -> int:
        return agent.log().count("connected to")

    seen, mark = connections(), len(agent.heard)

    def has_stood() -> bool:
        nonlocal seen, mark
        if connections() != seen:
            seen, mark = connections(), len(agent.heard)
        return len(agent.on("line/line-1/live", mark)) >= LIVES

    agent.until(has_stood)
