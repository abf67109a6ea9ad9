"""A stick is imported by the unit that a plugged-in one starts, and by nothing before somebody has allowed it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.machine import Machine
from support.plant_index import PlantIndex
from support.running_agent import RunningAgent
from support.waiting import until

UNIT = "changeover-stick@test.service"
PLACE = "/run/changeover-stick/test"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> PlantIndex:
    return PlantIndex(tmp_path_factory.mktemp("plant")).add("cap:n@1")


@pytest.fixture
def stick(installed: Machine, plant: RunningAgent, index: PlantIndex) -> Iterator[Machine]:
    """Give the machine with the index's root configured, and a stick mounted where the unit looks."""
    right = plant.config.read_text()
    shutil.copy(index.root, plant.config.with_name("root.json"))
    plant.config.write_text(right.replace("[catalog]", '[catalog]\nroot = "/etc/changeover/root.json"'))
    shutil.copytree(index.path, installed.root / "mnt" / "stick", dirs_exist_ok=True)
    installed.run("mkdir", "--parents", PLACE)
    installed.run("mount", "--bind", "/mnt/stick", PLACE)
    yield installed
    plant.config.write_text(right)
    installed.run("umount", PLACE, check=False)
    installed.run("rm", "-f", "/etc/changeover/import-from-sticks")


def models(machine: Machine) -> str:
    return (machine.root / "etc/changeover/models.toml").read_text()


def test_nothing_is_imported_that_nobody_has_allowed(stick: Machine) -> None:
    stick.run("systemctl", "start", UNIT)
    assert stick.run("systemctl", "show", "--property=ConditionResult", UNIT).stdout.strip() == "ConditionResult=no"
    assert '"cap"' not in models(stick)


def test_a_good_stick_is_imported_for_the_service_and_unmounted(stick: Machine) -> None:
    stick.run("touch", "/etc/changeover/import-from-sticks")
    stick.run("systemctl", "start", UNIT)
    assert '"cap"' in models(stick)
    said = stick.run("changeover", "models", "list", "--config", "/etc/changeover/changeover.toml").stdout
    line = next(one for one in said.splitlines() if one.startswith("cap:n@1"))
    assert line.endswith("trusted")
    stick.run("runuser", "-u", "changeover", "--", "sha256sum", line.split("\t")[2])
    # Looked for in the system's mounts, because each command of the unit has mounts of its own.
    until(lambda: stick.run("mountpoint", "-q", PLACE, check=False).returncode != 0)


def test_another_plants_stick_is_refused(stick: Machine, tmp_path: Path) -> None:
    other = PlantIndex(tmp_path / "elsewhere").add("hat:n@1")
    shutil.rmtree(stick.root / "mnt" / "stick")
    shutil.copytree(other.path, stick.root / "mnt" / "stick")
    stick.run("umount", PLACE)
    stick.run("mount", "--bind", "/mnt/stick", PLACE)
    stick.run("touch", "/etc/changeover/import-from-sticks")
    assert stick.run("systemctl", "start", UNIT, check=False).returncode != 0
    assert '"hat"' not in models(stick)
