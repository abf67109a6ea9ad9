"""Frames that come and are not answered take `ready` away, whatever the cause; it comes back with the answers."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from mmap import mmap
from pathlib import Path

import pytest
from support.agent_here import AgentHere, Sensors
from support.brokers import Mosquitto

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.processes.slots import slot_layout as layout
from agent.processes.slots.frame_slot import FrameSlot
from agent.processes.supervisor import ChildSpec

ODD_WORKER = Path(__file__).parents[1] / "support" / "odd_worker.py"


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """Give the file that says how frames fare."""
    return tmp_path / "orders"


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path, orders: Path) -> Iterator[AgentHere]:
    """Give an agent of an odd worker, ready for its products."""

    def odd(spec: ChildSpec) -> ChildSpec:
        tests = os.pathsep.join([str(ODD_WORKER.parents[1]), str(ODD_WORKER.parents[2])])
        environment = {**(spec.environment or {}), "ODD_WORKER": str(orders), "PYTHONPATH": tests}
        return replace(spec, command=(sys.executable, str(ODD_WORKER)), environment=environment)

    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        made = AgentHere(tmp_path, mosquitto.url, peer, lambda _settings: None)
        made.sensors = Sensors()
        made.change_worker = odd
        made.start()
        made.until_said("status", "online")
        made.ready("bottle-500")
        made.ready("open", "line-2")
        yield made
        made.kill()


def frozen(agent: AgentHere) -> None:
    """Let the slots of line-1 say that far later frames were taken: the worker sees no newer one."""
    for stream in ("cam-1", "cam-2"):
        with words_of(agent.slots[stream]) as words:
            _, _, taken = layout.load_progress(words)
            layout.store_taken(words, 1 << 40, taken)


@contextmanager
def words_of(slot: FrameSlot) -> Iterator["memoryview[int]"]:
    """Give the words of a slot, to be written."""
    with mmap(slot.descriptors().memory, layout.HEADER_BYTES) as memory, layout.words_of(memory) as words:
        yield words


@pytest.mark.parametrize("cause", ["fail", "stop", "stand", "frozen"])
def test_ready_goes_and_comes_with_the_answers(agent: AgentHere, orders: Path, cause: str) -> None:
    agent.end_trials()
    mark, began_s = len(agent.heard), time.monotonic()
    frozen(agent) if cause == "frozen" else orders.write_text(cause)
    agent.until_said("line/line-1/ready", "0", mark)
    took_s = time.monotonic() - began_s
    print(f"\n{cause}: ready 0 after {took_s:.2f} s")  # noqa: T201 - the figure, for who asks for it
    said = len(agent.heard)
    agent.until(lambda: any(b"frames_unanswered" in one.payload for one in agent.on("alerts", mark)))
    agent.until(lambda: time.monotonic() - began_s > took_s + 2.5)
    assert {one.payload for one in agent.on("line/line-1/live", said)} <= {b"0"}
    agent.send("line/line-1/product/set", "17")
    agent.until(lambda: agent.on("line/line-1/switch", said))
    after = len(agent.heard)
    agent.until(lambda: time.monotonic() - began_s > took_s + 5)
    assert b"17" not in {one.payload for one in agent.on("line/line-1/ready", said)}
    orders.write_text("")
    agent.ready("bottle-500")
    agent.until_inferred("cam-1", "alpha:n@1", after)
    agent.until(lambda: json.loads(agent.value("alerts") or "[1]") == [])


def test_frames_of_impossible_sizes_are_counted_and_end_nothing(agent: AgentHere) -> None:
    slot = agent.slots["cam-1"]
    torn = slot.counters().torn
    limit_s = time.monotonic() + 60
    with words_of(slot) as words:
        while slot.counters().torn < torn + 8:
            assert time.monotonic() < limit_s
            for buffer in range(layout.BUFFERS):
                words[layout.group(buffer) + layout.WIDTH] = -1 if buffer else 1 << 40
    mark = len(agent.heard)
    agent.until(lambda: len(agent.detections("cam-1", mark)) > 5)
    agent.until(lambda: agent.value("line/line-1/ready") == "bottle-500")
