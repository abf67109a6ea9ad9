"""A whole agent with a broker that takes only short messages: its line turns over, and one alert names the topic."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto, settings_of
from support.running_agent import BASE, RunningAgent

from agent.mqtt.blocking_client import connected

LIVES = 8
"""So many heartbeats without a new connection in between show that nothing closes it any more."""
each_protocol = pytest.mark.parametrize("protocol", ["5", "3.1.1"])
MakeAgent = Callable[[str], RunningAgent]


@pytest.fixture
def agent_at(make_mosquitto: Callable[..., Mosquitto], tmp_path: Path, protocol: str) -> Iterator[MakeAgent]:
    """`agent_at(limit)` starts an agent whose broker has that line in its configuration."""
    with ExitStack() as stack:

        def make(limit: str) -> RunningAgent:
            def speaking(settings: dict[str, Any]) -> None:
                settings["mqtt"]["protocol"] = protocol

            broker = make_mosquitto(more=(limit,))
            peer = stack.enter_context(connected(settings_of(broker.url, "plc")))
            agent = RunningAgent(tmp_path / "box", broker.url, peer, speaking)
            stack.callback(agent.kill)
            agent.start()
            agent.until_said("status", "online")
            return agent

        yield make


@each_protocol
@pytest.mark.parametrize("limit_bytes", [600, 1000])
def test_health_is_left_out_by_one_alert_and_the_line_turns_over(
    agent_at: MakeAgent, protocol: str, limit_bytes: int
) -> None:
    agent = agent_at(f"max_packet_size {limit_bytes}")
    agent.ready("bottle-500")
    code = "message_too_large" if protocol == "5" else "broker_refused"
    agent.until(lambda: f"{BASE}/health" in _standing(agent).get(code, ""))
    if protocol == "3.1.1":
        agent.until(lambda: "left out" in _standing(agent).get(code, ""))
    _until_it_stands(agent)
    agent.ready("17")
    assert set(_standing(agent)) == {code}
    assert "duplicate_device" not in agent.log()


@each_protocol
def test_a_limit_that_fits_is_not_noticed(agent_at: MakeAgent) -> None:
    agent = agent_at("max_packet_size 4096")
    agent.ready("bottle-500")
    agent.until(lambda: agent.on("health"))
    agent.ready("17")
    assert _standing(agent) == {}


@each_protocol
def test_a_limit_of_payloads_that_only_drops(agent_at: MakeAgent) -> None:
    """Mosquitto drops what is longer than `message_size_limit`; of `health`, which has no answer, nobody can tell."""
    agent = agent_at("message_size_limit 600")
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
