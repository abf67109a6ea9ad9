"""A machine that boots systemd, with the service installed as a user installs it, beside a broker outside of it.

`scripts/test-systemd` prepares what it needs, and says where that is.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.machine import Machine
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

PREPARED = os.environ.get("CHANGEOVER_TEST_MACHINE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out where no machine was prepared: that takes root, and minutes."""
    if PREPARED is None:
        why = pytest.mark.skip(reason="needs a machine of its own: scripts/test-systemd")
        for item in items:
            if Path(__file__).parent in item.path.parents and "machine" in getattr(item, "fixturenames", ()):
                item.add_marker(why)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Give a booted machine, empty but for its system."""
    assert PREPARED is not None
    prepared = Path(PREPARED)
    made = Machine(prepared / "tree", prepared / "wheels", tmp_path_factory.mktemp("machine"))
    try:
        made.boot()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def before(machine: Machine) -> set[str]:
    """Give the files of the machine before anything was installed."""
    return machine.files()


@pytest.fixture(scope="session")
def plant(machine: Machine, before: set[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """Give the plant outside: a broker, and what the agent says there. Its configuration lies in the machine."""
    assert before
    broker = Mosquitto(tmp_path_factory.mktemp("broker"), persistence=False, more=())
    broker.start()
    folder = machine.root / "etc" / "changeover"
    folder.mkdir(mode=0o755)
    (folder / "agent.log").write_text("see the machine's journal\n")
    try:
        with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
            yield RunningAgent(folder, broker.url, peer, _as_a_service)
    finally:
        broker.kill()


def _as_a_service(settings: dict[str, Any]) -> None:
    settings["device"] = {"id": "box", "memory_budget": "400MiB"}
    settings["catalog"] = {"file": "models.toml"}


@pytest.fixture(scope="session")
def installed(machine: Machine, plant: RunningAgent) -> Machine:
    """Give the machine with the first version installed."""
    assert plant.config.exists()
    machine.install("one")
    return machine


@pytest.fixture
def running(installed: Machine, plant: RunningAgent) -> Machine:
    """Give the machine with the service running, and line-1 ready for a product."""
    installed.run("systemctl", "start", "changeover")
    plant.send("line/line-1/product/set", "bottle-500", retain=True)
    plant.until_said("line/line-1/live", "bottle-500", len(plant.heard))
    return installed
