"""From one version to the next, back again, and off the machine."""

from support.machine import SOURCE, Machine
from support.running_agent import RunningAgent

UNINSTALL = f"{SOURCE}/scripts/uninstall"


def test_a_dry_run_shows_every_step_and_does_none(running: Machine) -> None:
    before = _state(running)
    shown = running.install("two", "--dry-run").stdout
    for step in ("pip install", "check --config", "current", "changeover.service", "systemctl restart"):
        assert step in shown
    for step in ("/opt/changeover", "/etc/changeover", "userdel"):
        assert step in running.run(UNINSTALL, "--purge", "--dry-run").stdout
    assert _state(running) == before


def test_on_a_jetson_the_system_s_own_python_packages_are_used(installed: Machine) -> None:
    mark = installed.root / "etc" / "nv_tegra_release"
    mark.touch()
    try:
        said = installed.install("two", "--dry-run")
    finally:
        mark.unlink()
    assert "/usr/bin/python3 -I -m venv --system-site-packages" in said.stdout
    assert "lock/jetpack/base.txt" in said.stdout
    assert "the system's Python, which the venv will see:" in said.stderr
    assert "cv2: not there" in said.stderr


def test_a_wrong_configuration_stops_an_upgrade_before_anything_changed(running: Machine, plant: RunningAgent) -> None:
    right = plant.config.read_text()
    pid = running.shows("MainPID")
    plant.config.write_text(right + "\n[nonsense]\n")
    try:
        answer = running.install("two", check=False)
    finally:
        plant.config.write_text(right)
    assert answer.returncode == 1
    assert "nonsense" in answer.stdout + answer.stderr
    assert "nothing was changed" in answer.stderr
    assert _version(running) == "0.9.1"
    assert running.shows("MainPID") == pid
    assert len(_versions(running)) == 1


def test_versions_follow_each_other_and_one_that_does_not_become_ready_is_taken_back(
    running: Machine, plant: RunningAgent
) -> None:
    configuration = plant.config.read_text()

    mark = len(plant.heard)
    running.install("two")
    assert _version(running) == "0.9.2"
    plant.until_said("line/line-1/ready", "bottle-500", mark)

    mark = len(plant.heard)
    failed = running.install("broken", check=False)
    assert failed.returncode == 1
    assert "falls over when it starts" in failed.stderr
    assert "0.9.2" in failed.stderr.splitlines()[-1]
    assert _version(running) == "0.9.2"
    assert running.shows("ActiveState") == "active"
    plant.until_said("line/line-1/ready", "bottle-500", mark)

    mark = len(plant.heard)
    running.run(f"{SOURCE}/scripts/install", "--rollback")
    assert _version(running) == "0.9.1"
    plant.until_said("line/line-1/ready", "bottle-500", mark)
    assert len(_versions(running)) == 2
    assert plant.config.read_text() == configuration


def test_nothing_but_configuration_and_data_is_left_and_purged_nothing_at_all(
    running: Machine, plant: RunningAgent, before: set[str]
) -> None:
    assert plant.config.exists()
    running.run(UNINSTALL)
    left = running.files() - before
    assert {f"/{'/'.join(path.split('/')[1:4])}" for path in left} >= {"/etc/changeover/changeover.toml"}
    assert [path for path in left if not path.startswith(("/etc/changeover", "/var/lib/changeover"))] == []
    assert running.run("systemctl", "status", "changeover", check=False).returncode == 4
    running.install("one")
    plant.until_said("status", "online", len(plant.heard))
    assert plant.retained("line/line-1/ready") is not None
    purged = running.run(UNINSTALL, "--purge")
    assert "cleared" in purged.stdout
    own = ("status", "meta", "line/line-1/ready", "line/line-2/state")
    assert [topic for topic in own if plant.retained(topic) is not None] == []
    assert plant.retained("line/line-1/product/set") == "bottle-500"
    assert running.files() - before == set()
    assert "changeover" not in running.run("cat", "/etc/passwd", "/etc/group").stdout
    assert running.run("pgrep", "--full", "changeover", check=False).stdout == ""


def _state(machine: Machine) -> str:
    """Return name, size, time, mode and owner of every file that no running program writes."""
    folders = ("/etc", "/opt", "/root", "/usr", "/var/lib/dpkg")
    return machine.run("find", *folders, "-printf", "%p %s %T@ %m %u %g\n").stdout


def _version(machine: Machine) -> str:
    return machine.run("changeover", "--version").stdout.split()[1]


def _versions(machine: Machine) -> list[str]:
    return machine.run("ls", "/opt/changeover/versions").stdout.split()
