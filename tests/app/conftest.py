"""One running agent beside a real broker."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings


def _as_it_is(_settings: dict[str, Any]) -> None:
    """Change nothing."""


@pytest.fixture
def make_agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Callable[..., RunningAgent]]:
    """`make_agent(changes, name)` writes a plant, lets `changes` edit its settings, and starts the agent.

    All of them hear with one ear: where there are two, only one may wait for messages.
    """
    made: list[RunningAgent] = []
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:

        def make(changes: Callable[[dict[str, Any]], None] = _as_it_is, name: str = "") -> RunningAgent:
            agent = RunningAgent(tmp_path / name, mosquitto.url, peer, changes)
            made.append(agent)
            agent.start()
            return agent

        yield make
        for agent in made:
            agent.kill()


@pytest.fixture
def running(make_agent: Callable[..., RunningAgent]) -> RunningAgent:
    """Give an agent whose lines are ready for their first products."""
    agent = make_agent()
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.ready("open", "line-2")
    return agent
