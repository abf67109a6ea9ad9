"""A machine that boots systemd, with the service installed as a user installs it, beside a broker outside of it.

`scripts/test-systemd` prepares what it needs, and says where that is.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import Machine
from support.machine_plant import plant_beside
from support.running_agent import RunningAgent

PREPARED = os.environ.get("CHANGEOVER_TEST_MACHINE")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave these tests out where no machine was prepared: that takes root, and minutes."""
    if PREPARED is None:
        why = pytest.mark.skip(reason="needs a machine of its own: scripts/test-systemd")
        for item in items:
            names = {"machine", "box", "bare"} & {*getattr(item, "fixturenames", ())}
            if names and Path(__file__).parent in item.path.parents:
                item.add_marker(why)


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Give a booted machine, empty but for its system."""
    assert PREPARED is not None
    made = Machine(Path(PREPARED), tmp_path_factory.mktemp("machine"))
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
    with plant_beside(machine, tmp_path_factory.mktemp("broker")) as agent:
        yield agent


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
