"""A killed worker's memory is lent once its process is gone, also where control starts the next one beside it."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.two_groups import PLANT
from support.waiting import DEADLINE_S, until

from agent.app.children.groups import ending_workers
from agent.app.children.groups.ending_workers import EndingWorkers
from agent.app.children.groups.workers import Workers
from agent.app.children.memory_budget import Budgets
from agent.app.children.worker import Share, name_of
from agent.app.observability.memory_check import MemoryCheck
from agent.messages.children import CameraMessage, CameraSetup, MemoryKept, MemoryLimit, Message
from agent.messages.descriptors import SlotDescriptors
from agent.messages.events import ChildLost, ChildUp
from agent.messages.groups.memory_share import ShareAsked
from agent.processes.loop import Loop
from agent.processes.supervisor import ChildSpec, Supervisor
from agent.settings import load

TESTS = Path(__file__).parents[1]
GIB = 1 << 30


class DeafSupervisor(Supervisor):
    """A supervisor of children that understand no worker's messages, which so reach none; it keeps them."""

    sent: list[tuple[str, Message]]

    def send(self, name: str, message: Message) -> bool:
        if self._children[name]._channel is None:
            return False
        self.sent.append((name, message))
        return True


class Device:
    """Two groups, whose workers are children that do nothing."""

    def __init__(self, folder: Path) -> None:
        file = folder / "changeover.toml"
        file.write_text(PLANT, encoding="utf-8")
        self.loop = Loop()
        self.up: list[str] = []
        self.told: list[tuple[str, Share]] = []
        """Share of each new worker."""
        self.supervisor = DeafSupervisor(self.loop, self._hear)
        self.supervisor.sent = []
        self.workers = Workers(load(file, {}), self.supervisor, lambda _: None)
        self.workers.divide(Budgets(4 * GIB))
        self.workers.start(self._spec)

    def _spec(self, group: str) -> ChildSpec:
        def setup() -> Message:
            self.told.append((group, self.workers.share_of(group)))
            return CameraSetup("cam", "work", 1, loop=False, wait_for_reader=False, slot=SlotDescriptors(0, 0, 0))

        command = (sys.executable, "-I", str(TESTS / "support" / "odd_child.py"))
        return ChildSpec(name_of(group), command, CameraMessage, setup, (), DEADLINE_S, DEADLINE_S)

    def _hear(self, child: str, message: Message) -> None:
        if isinstance(message, ChildUp):
            self.up.append(child)
        elif isinstance(message, ChildLost):
            group = self.workers.group_of(child)
            assert group is not None
            self.workers.lost(group)

    def until(self, is_done: Callable[[], object], ahead_s: float = 0.0) -> None:
        """Let the loop turn; `ahead_s` is added to the clock of its ticks."""
        limit_s = time.monotonic() + DEADLINE_S
        while not is_done():
            assert time.monotonic() < limit_s
            self.loop.run_once(0.05, lambda _event: None)
            self.supervisor.tick(time.monotonic() + ahead_s)
            self.workers.tick(time.monotonic() + ahead_s, {})

    def limit_bytes(self, group: str) -> int:
        return self.workers.share_of(group).limit.host_bytes


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    device = Device(tmp_path)
    yield device
    device.supervisor.stop()
    device.loop.close()


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Give the event on which the kernel ends what was killed."""
    ends, poll = threading.Event(), subprocess.Popen.poll
    monkeypatch.setattr(subprocess.Popen, "poll", lambda one: poll(one) if ends.is_set() else None)
    return ends


def test_what_a_killed_worker_had_is_lent_and_used_once_the_kernel_has_ended_it(
    device: Device, kernel: threading.Event
) -> None:
    device.until(lambda: len(device.up) == 2)
    assert device.limit_bytes("press") == GIB
    device.workers.restart("press", "for a test")
    device.workers.take("default", ShareAsked(1, MemoryLimit(4 * GIB), is_requested=False))
    device.workers.tick(time.monotonic(), {})
    assert (device.limit_bytes("default"), device.limit_bytes("press")) == (3 * GIB, 0)
    kernel.set()
    device.until(lambda: device.limit_bytes("default") == 4 * GIB)


def test_the_next_worker_is_told_what_is_its_groups_although_it_starts_in_the_same_turn(
    device: Device, kernel: threading.Event
) -> None:
    device.until(lambda: len(device.up) == 2)
    device.workers.restart("press", "for a test")
    kernel.set()
    device.until(lambda: len(device.told) == 3)
    assert device.told[-1][0] == "press"
    assert device.told[-1][1].limit.host_bytes == GIB


def test_the_next_worker_is_told_its_share_first_also_where_others_wait_for_it(
    device: Device, kernel: threading.Event
) -> None:
    """A worker ends at once whose first message is a recall."""
    device.until(lambda: len(device.up) == 2)
    killed = psutil.Process(device.workers.pids()["press"])
    device.workers.restart("press", "for a test")
    device.workers.take("default", ShareAsked(1, MemoryLimit(4 * GIB), is_requested=False))
    until(lambda: killed.status() == psutil.STATUS_ZOMBIE)
    kernel.set()
    device.until(lambda: len(device.told) == 3, ahead_s=1.0)  # because the next one starts after 0.25 s at most
    assert (device.told[-1][0], device.told[-1][1].limit.host_bytes) == ("press", 0), "as of any worker that is down"
    assert device.limit_bytes("default") == 4 * GIB
    assert name_of("press") not in dict(device.supervisor.sent)


def test_a_worker_that_does_not_end_is_followed_by_one_that_has_the_rest_and_is_said(
    device: Device, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(ending_workers, "_PATIENCE_S", 0.0)
    device.until(lambda: len(device.up) == 2)
    stuck = device.workers.pids()["press"]
    os.kill(stuck, signal.SIGSTOP)
    until(lambda: psutil.Process(stuck).status() == psutil.STATUS_STOPPED)  # else it may see its channel end before
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(subprocess.Popen, "kill", lambda _: None)
        device.workers.restart("press", "for a test")
        device.until(lambda: len(device.told) == 3, ahead_s=15.0)
    held_bytes = device.workers.kept_bytes
    assert held_bytes > 0
    assert device.told[-1][1].limit.host_bytes == GIB - held_bytes
    assert f"event=worker_does_not_end group=press pids={stuck} bytes={held_bytes}" in caplog.text
    device.until(lambda: len(device.up) == 3)
    os.kill(stuck, signal.SIGKILL)
    device.until(lambda: device.workers.kept_bytes == 0)
    device.workers.take("press", ShareAsked(1, MemoryLimit(GIB), is_requested=True))
    assert device.limit_bytes("press") == GIB


def test_only_a_worker_that_takes_long_to_end_is_looked_at() -> None:
    pids = {"press": [4]}
    held = {4: 500}
    ending = EndingWorkers(lambda group: pids.get(group, []), held.__getitem__)
    assert ending.lost("default", 10.0)
    assert not ending.lost("press", 10.0)
    assert ending.look(14.9) == ([], {})
    assert ending.look(15.1) == ([], {"press": 500})
    held[4] = 0
    assert ending.look(15.5) == ([], {"press": 0})
    pids.clear()
    assert ending.look(16.0) == (["press"], {})
    assert ending.look(17.0) == ([], {})


def test_its_memory_is_an_alert_until_it_is_back() -> None:
    decided: list[MemoryKept] = []
    check = MemoryCheck(decided.append)
    check.told(MemoryKept(7, ("b:n@1",)), 0.0)
    check.killed(500)
    check.killed(500)
    check.worker_lost()
    check.killed(0)
    assert decided[1:] == [
        MemoryKept(507, ("b:n@1", "a killed worker")),
        MemoryKept(500, ("a killed worker",)),
        MemoryKept(0, ()),
    ]
