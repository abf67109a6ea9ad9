"""Groups of the installed service: its own cgroup is divided, and the kernel holds a group to its memory."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomlkit
from support.machine import Machine
from support.running_agent import RunningAgent

ENOUGH_BYTES = 64 << 20
"""Less than a worker with a runtime takes."""


@pytest.fixture
def grouped(running: Machine, plant: RunningAgent) -> Iterator[Machine]:
    """Give the service with line-2 in a group of its own, and both lines ready; afterwards it is as before."""
    right = plant.config.read_text()
    settings = tomlkit.parse(right)
    settings["line"]["line-2"]["group"] = "press"
    settings["group"] = {"press": {"cpu_weight": 50}}
    plant.config.write_text(tomlkit.dumps(settings))
    plant.send("line/line-2/product/set", "open", retain=True)
    try:
        mark = len(plant.heard)
        running.run("systemctl", "restart", "changeover")
        plant.until_said("line/line-1/ready", "bottle-500", mark)
        plant.until_said("line/line-2/ready", "open", mark)
        yield running
    finally:
        plant.config.write_text(right)
        running.run("systemctl", "restart", "changeover")


def test_the_kernel_kills_a_worker_at_its_wall_and_nobody_else(grouped: Machine, plant: RunningAgent) -> None:
    told = json.loads(plant.value("meta") or "{}")["groups"]
    if told["press"]["wall"] == "ledger":
        pytest.skip(f"the machine has no walls: {told['press']['detail']}")
    base = Path("/sys/fs/cgroup") / grouped.shows("ControlGroup").lstrip("/")
    leaf = base / "group-press"
    assert grouped.run("cat", str(leaf / "cpu.weight")).stdout.split() == ["50"]
    workers = {group: grouped.run("cat", str(base / f"group-{group}/cgroup.procs")).stdout.split() for group in told}
    assert [len(pids) for pids in workers.values()] == [1, 1]
    assert grouped.shows("MainPID") in grouped.run("cat", str(base / "control/cgroup.procs")).stdout.split()
    mark, before = len(plant.heard), plant.detections("cam-1")[-1]["frame"]
    grouped.run("sh", "-c", f"echo {ENOUGH_BYTES} > {leaf}/memory.max")
    plant.until_said("line/line-2/ready", "0", mark)
    plant.until_said("line/line-2/ready", "open", mark)
    events = dict(line.split() for line in grouped.run("cat", str(leaf / "memory.events")).stdout.splitlines())
    assert int(events["oom_kill"]) > 0
    assert not plant.on("line/line-1/ready", mark)
    frames = [one["frame"] for one in plant.detections("cam-1", mark)]
    assert frames == list(range(before + 1, before + 1 + len(frames)))
    assert grouped.run("cat", str(base / "group-default/cgroup.procs")).stdout.split() == workers["default"]
