"""One running agent beside a real broker."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.file_server import FileServer, file_server
from support.running_agent import BASE, RunningAgent

from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.endpoint.link_settings import LinkSettings


def _as_it_is(_settings: dict[str, Any]) -> None:
    """Change nothing."""


@contextmanager
def _agents(mosquitto: Mosquitto, folder: Path) -> Iterator[Callable[..., RunningAgent]]:
    made: list[RunningAgent] = []
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:

        def make(changes: Callable[[dict[str, Any]], None] = _as_it_is, name: str = "") -> RunningAgent:
            agent = RunningAgent(folder / name, mosquitto.url, peer, changes)
            made.append(agent)
            agent.start()
            return agent

        yield make
        for agent in made:
            agent.kill()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as served:
        yield served


@pytest.fixture
def make_agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Callable[..., RunningAgent]]:
    """`make_agent(changes, name)` writes a plant, lets `changes` edit its settings, and starts the agent.

    All of them hear with one ear: where there are two, only one may wait for messages.
    """
    with _agents(mosquitto, tmp_path) as make:
        yield make


@pytest.fixture
def running(make_agent: Callable[..., RunningAgent]) -> RunningAgent:
    """Give an agent whose lines are ready for their first products."""
    agent = make_agent()
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.ready("open", "line-2")
    return agent


@pytest.fixture(scope="module")
def module_mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """One broker for all tests of a module that leave it alone."""
    broker = Mosquitto(tmp_path_factory.mktemp("mosquitto"), persistence=False, more=())
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture(scope="module")
def make_module_agent(
    module_mosquitto: Mosquitto, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., RunningAgent]]:
    """Start agents, as `make_agent` does, for all tests of a module."""
    with _agents(module_mosquitto, tmp_path_factory.mktemp("agent")) as make:
        yield make


@pytest.fixture(scope="module")
def _module_agent(make_module_agent: Callable[..., RunningAgent]) -> RunningAgent:
    agent = make_module_agent()
    agent.until_said("status", "online")
    return agent


@pytest.fixture
def shared(_module_agent: RunningAgent) -> RunningAgent:
    """Give the module's one agent, ready for its first products; a test leaves it running."""
    _module_agent.begin_anew()
    return _module_agent


@pytest.fixture
def ears(request: pytest.FixtureRequest) -> Callable[[int], tuple[BlockingClient, BlockingClient]]:
    """Give a PLC, and a witness that hears everything of the device in its publisher's order, by the broker's port."""

    def connect(port: int) -> tuple[BlockingClient, BlockingClient]:
        plc, ear = (BlockingClient(LinkSettings("127.0.0.1", port, name)) for name in ("plc", "witness"))
        for one in (plc, ear):
            one.connect()
            request.addfinalizer(one.close)
        ear.subscribe([f"{BASE}/#"], qos=0)
        return plc, ear

    return connect
