"""Two groups with a worker each: whatever becomes of one, the other's line loses no frame and stays ready."""

import json
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.agent_here import AgentHere, Sensors
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent.app.children.groups import memory_guard
from agent.app.children.worker import name_of
from agent.messages import children as said
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.processes.supervisor import ChildSpec

ODD_WORKER = Path(__file__).parents[1] / "support" / "odd_worker.py"
SLOW_FPS = 2
"""So few that a busy machine answers each in time, and a frame that is missing was lost."""
AFTER = 6
"""Frames of the other group that must follow a blow."""


def in_two_groups(settings: dict[str, Any]) -> None:
    settings["line"]["line-2"]["group"] = "press"
    settings["group"] = {"press": {"memory": "150MiB", "cpu_weight": 50}}
    for stream in settings["stream"]:
        stream["fps"] = SLOW_FPS


def worker(agent: RunningAgent, group: str) -> psutil.Process:
    """Return the worker of a group, as the log named it last."""
    pids = re.findall(rf"event=child_up child='{name_of(group)}' pid=(\d+)", agent.log())
    return psutil.Process(int(pids[-1]))


@pytest.fixture
def plant(make_agent: Callable[..., RunningAgent]) -> RunningAgent:
    """Give a plant whose two lines are ready, in a group each."""
    agent = make_agent(in_two_groups)
    come_up(agent)
    return agent


def come_up(agent: RunningAgent) -> None:
    """Have both lines ready, and the first one's frames answered."""
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.ready("open", "line-2")
    agent.until(lambda: agent.detections("cam-1"))


def assert_untouched(agent: RunningAgent, mark: int, before: int) -> None:
    """Since `mark`, line-1 has stayed ready, and each frame after frame `before` was answered in order."""
    assert not agent.on("line/line-1/ready", mark)
    assert not agent.on("line/line-1/phase", mark)
    frames = [one["frame"] for one in agent.detections("cam-1", mark)]
    assert frames == list(range(before + 1, before + 1 + len(frames)))
    assert len(frames) >= AFTER


@pytest.mark.parametrize("blow", [signal.SIGSEGV, signal.SIGKILL, signal.SIGSTOP])
def test_a_worker_that_crashes_is_killed_or_hangs_costs_the_other_group_nothing(
    plant: RunningAgent, blow: signal.Signals
) -> None:
    own, other = worker(plant, "press"), worker(plant, "default")
    mark, before = len(plant.heard), plant.detections("cam-1")[-1]["frame"]
    own.send_signal(blow)
    plant.until_said("line/line-2/ready", "0", mark)
    plant.until_said("line/line-2/ready", "open", mark)
    plant.until(lambda: len(plant.detections("cam-1", mark)) >= AFTER)
    assert_untouched(plant, mark, before)
    assert worker(plant, "press").pid != own.pid
    assert other.is_running()


def test_a_worker_that_starts_again_steps_back_until_it_serves(plant: RunningAgent) -> None:
    assert "event=start_lowered" not in plant.log(), "because no line serves while all begin"
    mark, other = len(plant.heard), worker(plant, "default")
    worker(plant, "press").kill()
    plant.until_said("line/line-2/ready", "0", mark)
    plant.until_said("line/line-2/ready", "open", mark)
    started = worker(plant, "press")
    assert f"event=start_lowered group=press pid={started.pid}" in plant.log()
    plant.until(lambda: set(nice_of(started)) == {other.nice()})


def nice_of(process: psutil.Process) -> list[int]:
    """Return the nice value of each thread."""
    found: list[int] = []
    for thread in process.threads():
        with suppress(ProcessLookupError):  # because one of a load may end meanwhile
            found.append(os.getpriority(os.PRIO_PROCESS, thread.id))
    return found


def test_a_group_changes_over_while_the_other_has_no_worker(plant: RunningAgent) -> None:
    mark = len(plant.heard)
    worker(plant, "press").suspend()
    plant.until_said("line/line-2/ready", "0", mark)
    plant.ready("17")
    assert worker(plant, "press").status() == psutil.STATUS_STOPPED
    plant.until_said("line/line-2/ready", "open", mark)


def test_requests_of_a_group_without_lines_yield_to_the_lines_of_others(
    make_agent: Callable[..., RunningAgent],
) -> None:
    def with_clients_apart(settings: dict[str, Any]) -> None:
        settings["group"] = {"mes": {}}
        settings["web"] = {"client": [{"name": "mes", "token_file": "mes.token", "group": "mes"}]}

    agent = make_agent(with_clients_apart)
    agent.logged("event=child_up child='worker mes'")
    agent.ready("bottle-500")
    assert worker(agent, "mes").nice() == min(19, worker(agent, "default").nice() + 10)


def test_cache_meta_and_health_know_the_groups(plant: RunningAgent) -> None:
    plant.until(lambda: plant.on("health"))
    meta = json.loads(plant.value("meta") or "{}")
    assert {name: (one["lines"], one["cpu_weight"]) for name, one in meta["groups"].items()} == {
        "default": (["line-1"], 100),
        "press": (["line-2"], 50),
    }
    assert meta["groups"]["press"]["memory_bytes"] == 150 << 20
    cache = json.loads(plant.value("cache") or "{}")
    assert cache["budget_bytes"] == 400 << 20
    assert cache["groups"]["press"]["guaranteed_bytes"] == 150 << 20
    serving = {(one["group"], one["model"]) for one in cache["models"] if one["state"] == "active"}
    assert serving == {("default", "alpha:n@1"), ("press", "beta:n@1")}
    health = json.loads(plant.on("health")[-1].payload)
    assert {"worker_bytes", "worker_press_bytes"} <= health["memory"].keys()


def test_a_single_group_may_have_any_name(make_agent: Callable[..., RunningAgent]) -> None:
    def in_one_group(settings: dict[str, Any]) -> None:
        settings["group"] = {"press": {}}
        for line in settings["line"].values():
            line["group"] = "press"

    agent = make_agent(in_one_group)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.until(lambda: any("worker_press_bytes" in json.loads(one.payload)["memory"] for one in agent.on("health")))
    assert json.loads(agent.on("health")[-1].payload)["worker"]["refused_messages"] == 0
    cache = json.loads(agent.value("cache") or "{}")
    assert {one["model"] for one in cache["models"]} == {"alpha:n@1", "beta:n@1"}
    assert "groups" not in cache
    assert json.loads(agent.value("meta") or "{}")["processors"].keys() == {"alpha:n@1", "beta:n@1"}


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Give the file that says how the frames of the group `press` fare."""
    return tmp_path / "orders"


@contextmanager
def odd_press(
    broker: Mosquitto, folder: Path, orders: Path, changes: Callable[[dict[str, Any]], None] = in_two_groups
) -> Iterator[AgentHere]:
    """Run an agent whose group `press` has a worker that does as the orders say."""

    def odd(spec: ChildSpec) -> ChildSpec:
        if spec.name != name_of("press"):
            return spec
        tests = os.pathsep.join([str(ODD_WORKER.parents[1]), str(ODD_WORKER.parents[2])])
        environment = {**(spec.environment or {}), "ODD_WORKER": str(orders), "PYTHONPATH": tests}
        return replace(spec, command=(sys.executable, str(ODD_WORKER)), environment=environment)

    with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
        agent = AgentHere(folder, broker.url, peer, changes)
        agent.sensors = Sensors()
        agent.change_worker = odd
        agent.start()
        yield agent
        agent.kill()


@pytest.fixture
def here(mosquitto: Mosquitto, tmp_path: Path, orders: Path) -> Iterator[AgentHere]:
    """Give an agent whose group `press` has a worker that does as the orders say."""
    with odd_press(mosquitto, tmp_path, orders) as agent:
        yield agent


@pytest.fixture
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the device short of memory however much it has, so that a worker is ended at 854 MiB of its own."""
    monkeypatch.setattr(memory_guard, "SHORT_SHARE", 1.0)


def test_an_endless_loop_costs_the_other_group_nothing(here: AgentHere, orders: Path) -> None:
    come_up(here)
    mark, before = len(here.heard), here.detections("cam-1")[-1]["frame"]
    orders.write_text("spin")
    here.until_said("line/line-2/ready", "0", mark)
    orders.unlink()  # for the next worker
    here.until_said("line/line-2/ready", "open", mark)
    here.until(lambda: len(here.detections("cam-1", mark)) >= AFTER)
    assert_untouched(here, mark, before)


@pytest.mark.usefixtures("short_memory")
def test_a_leak_ends_at_the_groups_wall_and_costs_the_other_nothing(here: AgentHere, orders: Path) -> None:
    come_up(here)
    mark, before = len(here.heard), here.detections("cam-1")[-1]["frame"]
    orders.write_text("leak")
    here.until_said("line/line-2/ready", "0", mark)
    orders.unlink()
    here.until(lambda: any(b"worker_lost" in one.payload for one in here.on("alert", mark)))
    told = (json.loads(one.payload) for one in here.on("alert", mark))
    lost = next(one for one in told if one["code"] == "worker_lost")
    assert (lost["on"], lost["line"]) == (True, "line-2")
    assert re.match(
        r"group press: \d+ MiB of memory, its group has 854; \d+ MiB of the device's are left", lost["detail"]
    )
    here.until_said("line/line-2/ready", "open", mark)
    here.until(lambda: len(here.detections("cam-1", mark)) >= AFTER)
    assert_untouched(here, mark, before)


def test_a_worker_may_speak_of_its_own_lines_alone(here: AgentHere) -> None:
    here.until_said("status", "online")
    here.ready("bottle-500")
    mark = len(here.heard)
    here.say(name_of("press"), said.SwapFailed("line-1", 10_000, "alpha:n@1", None, "load_failed", "a lie"))
    here.say(name_of("press"), said.InferenceFailed("cam-1", "alpha:n@1", 1000, "a lie"))
    here.until(lambda: any(json.loads(one.payload)["worker"]["refused_messages"] == 2 for one in here.on("health")))
    assert not here.on("line/line-1/ready", mark)
