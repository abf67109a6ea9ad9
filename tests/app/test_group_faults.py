"""The line of one group while the other's worker crashes, leaks, loops or is killed: frames lost, latency beside calm.

`pytest -m soak -s tests/app/test_group_faults.py` prints the figures; calm and faults take turns. After
`scripts/vm` the kernel's walls stand, and there is a fault more.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from app.test_groups import come_up, in_two_groups, odd_press
from support.agent_here import AgentHere
from support.brokers import Mosquitto

from agent.app.children.groups import memory_guard
from agent.bench.figures import percentile, rounded

ROUNDS = int(os.environ.get("ROUNDS", "3"))
FPS = 10
OTHERS_FPS = 11
"""Of the other group, so that its frames fall between the line's and on them alike, in each window."""
ENOUGH_BYTES = 64 << 20
"""Less than a worker with a runtime takes."""
FRAMES = 100
"""Of each window, of which the ones with a fault last until the other group is ready again at the least."""

pytestmark = pytest.mark.soak


@dataclass
class Window:
    """The frames of one line in some time, of all rounds."""

    latencies_ms: list[float] = field(default_factory=list)
    missing: int = 0
    said: str = ""
    """Why the other group's worker was lost, as the alert of the last round says."""

    def take(self, frames: list[dict[str, Any]], after: int) -> None:
        """Add frames, the first of which has to follow frame `after`."""
        numbers = [one["frame"] for one in frames]
        self.latencies_ms += [one["latency_ms"] for one in frames]
        self.missing += numbers[-1] - after - len(numbers)


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    return tmp_path / "orders"


@pytest.fixture
def plant(mosquitto: Mosquitto, tmp_path: Path, orders: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentHere]:
    """Give an agent with a line in each of two groups, of which `press` has a worker that does as the orders say."""

    def changes(settings: dict[str, Any]) -> None:
        in_two_groups(settings)
        fps = {"cam-1": FPS, "cam-3": OTHERS_FPS}
        settings["stream"] = [one | {"fps": fps[one["id"]]} for one in settings["stream"] if one["id"] in fps]

    monkeypatch.setattr(memory_guard, "SHORT_SHARE", 1.0)  # short however much there is: a leak ends at 854 MiB
    with odd_press(mosquitto, tmp_path, orders, changes) as agent:
        yield agent


def test_whatever_becomes_of_one_group_the_other_loses_no_frame(plant: AgentHere, orders: Path) -> None:
    def signalled(number: signal.Signals) -> Callable[[], None]:
        return lambda: os.kill(plant.worker_pid("press"), number)

    faults: dict[str, Callable[[], object]] = {
        "crash": signalled(signal.SIGSEGV),
        "leak": lambda: orders.write_text("leak"),
        "loop": lambda: orders.write_text("spin"),
        "kill": signalled(signal.SIGKILL),  # as the kernel does where memory is short
    }
    come_up(plant)
    if wall := kernels_wall():
        faults["oom"] = lambda: wall.write_text(str(ENOUGH_BYTES))
    calm, beside = Window(), {name: Window() for name in faults}
    for _ in range(ROUNDS):
        for name, begin in faults.items():
            watch(plant, calm)
            mark = len(plant.heard)
            watch(plant, beside[name], partial(suffer, plant, begin, orders, mark, beside[name]))
            assert not plant.on("line/line-1/ready", mark)
    calm_ms = percentile(calm.latencies_ms, 99)
    figures = {
        "calm": {"p50_ms": percentile(calm.latencies_ms, 50), "p99_ms": calm_ms, "frames": len(calm.latencies_ms)},
        "missing": calm.missing,
        **{
            name: {
                "p50_vs_calm": percentile(one.latencies_ms, 50) / percentile(calm.latencies_ms, 50),
                "p99_vs_calm": percentile(one.latencies_ms, 99) / calm_ms,
                "missing": one.missing,
                "frames": len(one.latencies_ms),
                "said": one.said,
            }
            for name, one in beside.items()
        },
    }
    print("\n" + json.dumps(rounded(figures)))  # noqa: T201 - measured figures
    assert {name: one.missing for name, one in beside.items()} == dict.fromkeys(faults, 0)


def watch(plant: AgentHere, window: Window, suffered: Callable[[], None] = lambda: None) -> None:
    """Take the line's frames of a while, in which something may befall the other group."""
    mark, after = len(plant.heard), plant.detections("cam-1")[-1]["frame"]
    suffered()
    # Counted only, because control runs in this process, and would wait while many payloads are decoded.
    plant.until(lambda: len(plant.on("stream/cam-1/detections", mark)) >= FRAMES)
    window.take(plant.detections("cam-1", mark), after)


def suffer(plant: AgentHere, begin: Callable[[], object], orders: Path, mark: int, window: Window) -> None:
    """Have the fault befall the other group's worker, and wait until its line is ready again."""

    def lost() -> list[str]:
        alerts = [json.loads(one.payload) for one in plant.on("alert", mark)]
        return [one["detail"] for one in alerts if one["code"] == "worker_lost" and one["on"]]

    begin()
    plant.until_said("line/line-2/ready", "0", mark)
    plant.until(lost)
    window.said = lost()[0]
    orders.unlink(missing_ok=True)
    plant.until_said("line/line-2/ready", "open", mark)


def kernels_wall() -> Path | None:
    """Return the file of the other group's memory limit; None where the kernel has no walls for this process."""
    own = Path("/proc/self/cgroup").read_text().splitlines()[-1].partition("::")[2]
    leaf = Path("/sys/fs/cgroup") / own.lstrip("/") / ".." / "group-press" / "memory.max"
    return leaf if leaf.exists() else None
