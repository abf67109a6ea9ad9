"""Groups of the installed service: its own cgroup is divided, and the kernel holds a group to its memory."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import tomlkit
from support.machine import Machine
from support.running_agent import RunningAgent

ENOUGH_BYTES = 64 << 20
"""Less than a worker with a runtime takes."""

SLOW_FPS = 2
"""So few that a busy machine answers each in time, and a frame that is missing was lost."""


@pytest.fixture
def grouped(running: Machine, plant: RunningAgent) -> Iterator[Machine]:
    """Give the service with line-2 in a group of its own, and both lines ready; afterwards it is as before."""
    right = plant.config.read_text()
    settings = tomlkit.parse(right)
    settings["line"]["line-2"]["group"] = "press"
    settings["group"] = {"press": {"cpu_weight": 50}}
    for stream in settings["stream"]:
        stream["fps"] = SLOW_FPS
    plant.config.write_text(tomlkit.dumps(settings))
    plant.send("line/line-2/product/set", "open", retain=True)
    try:
        running.run("systemctl", "stop", "changeover")
        mark = len(plant.heard)  # because the one that is stopped may have said the same
        running.run("systemctl", "start", "changeover")
        plant.until_said("line/line-1/ready", "bottle-500", mark)
        plant.until_said("line/line-2/ready", "open", mark)
        plant.until(lambda: plant.detections("cam-1", mark))
        yield running
    finally:
        plant.config.write_text(right)
        running.run("systemctl", "restart", "changeover")


@dataclass
class Cgroup:
    """The service's own, in the machine."""

    machine: Machine

    def holds(self, name: str) -> str:
        """Return the content of one of its files."""
        base = Path("/sys/fs/cgroup") / self.machine.shows("ControlGroup").lstrip("/")
        return self.machine.run("cat", str(base / name)).stdout

    def put(self, name: str, value: int) -> None:
        """Write a number into one of its files."""
        base = Path("/sys/fs/cgroup") / self.machine.shows("ControlGroup").lstrip("/")
        self.machine.run("sh", "-c", f"echo {value} > {base / name}")

    def worker(self, group: str) -> str:
        """Return the process id of a group's worker, which is in the group's cgroup, as what it starts is."""
        pids = self.holds(f"group-{group}/cgroup.procs").split()
        return next(pid for pid in pids if "agent.inference.process" in self._command_line(pid))

    def _command_line(self, pid: str) -> str:
        return self.machine.run("cat", f"/proc/{pid}/cmdline", check=False).stdout


@pytest.fixture
def cgroup(grouped: Machine, plant: RunningAgent) -> Cgroup:
    """Give the divided cgroup of the service; without walls the test is left out."""
    told = json.loads(plant.value("meta") or "{}")["groups"]
    if told["press"]["wall"] == "ledger":
        pytest.skip(f"the machine has no walls: {told['press']['detail']}")
    return Cgroup(grouped)


def lost_and_back(plant: RunningAgent, mark: int) -> str:
    """Wait until line-2's worker is lost and its line ready again; return what the alert says."""

    def lost() -> list[int]:
        """Return where among the messages the alert is."""
        alerts = [(n, json.loads(one.payload)) for n, one in enumerate(plant.heard) if one.topic.endswith("/alert")]
        return [n for n, one in alerts if n >= mark and one["code"] == "worker_lost" and one["on"]]

    plant.until(lost)
    number = lost()[0]
    plant.until_said("line/line-2/ready", "open", number)
    return str(json.loads(plant.heard[number].payload)["detail"])


def test_the_kernel_kills_a_worker_at_its_wall_and_nobody_else(cgroup: Cgroup, plant: RunningAgent) -> None:
    assert cgroup.holds("group-press/cpu.weight").split() == ["50"]
    assert cgroup.machine.shows("MainPID") in cgroup.holds("control/cgroup.procs").split()
    default, press = cgroup.worker("default"), cgroup.worker("press")
    mark, before = len(plant.heard), plant.detections("cam-1")[-1]["frame"]
    cgroup.put("group-press/memory.max", ENOUGH_BYTES)
    said = lost_and_back(plant, mark)
    assert "of its group's processes, whose memory limit is" in said, cgroup.machine.journal()[-4000:]
    events = dict(line.split() for line in cgroup.holds("group-press/memory.events").splitlines())
    assert int(events["oom_kill"]) > 0
    assert not plant.on("line/line-1/ready", mark)
    frames = [one["frame"] for one in plant.detections("cam-1", mark)]
    assert frames == list(range(before + 1, before + 1 + len(frames)))
    assert (cgroup.worker("default"), cgroup.worker("press") == press) == (default, False)
    assert cgroup.machine.shows("NRestarts") == "0"


def test_a_worker_that_hangs_leaves_the_processor_to_the_others(cgroup: Cgroup, plant: RunningAgent) -> None:
    mark = len(plant.heard)
    cgroup.machine.run("sh", "-c", f"kill -STOP {cgroup.worker('press')}")
    cgroup.machine.until(lambda: cgroup.holds("group-press/cpu.weight").split() == ["5"], "restrained")
    lost_and_back(plant, mark)
    assert cgroup.holds("group-press/cpu.weight").split() == ["50"]
    assert not plant.on("line/line-1/ready", mark)


def test_a_reload_and_a_killed_main_process_leave_the_walls_standing(cgroup: Cgroup, plant: RunningAgent) -> None:
    machine = cgroup.machine
    default, main = cgroup.worker("default"), machine.shows("MainPID")
    machine.run("systemctl", "reload", "changeover")
    assert (cgroup.worker("default"), machine.shows("MainPID")) == (default, main)
    mark = len(plant.heard)
    machine.main_process().send_signal(signal.SIGKILL)
    plant.until_said("line/line-2/ready", "open", mark)
    plant.until_said("line/line-1/ready", "bottle-500", mark)
    told = json.loads(plant.value("meta") or "{}")["groups"]
    assert {group: (one["wall"], one.get("detail")) for group, one in told.items()} == {
        "default": ("cgroup", None),
        "press": ("cgroup", None),
    }
    assert machine.shows("MainPID") in cgroup.holds("control/cgroup.procs").split()
    assert cgroup.worker("default") != default
    assert int(cgroup.holds("group-press/memory.max")) > ENOUGH_BYTES
