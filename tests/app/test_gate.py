"""Impossible messages of a child are refused, and control goes on."""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.agent_here import AgentHere, Sensors
from support.brokers import Mosquitto

from agent.app.children.message_gate import Gate
from agent.app.children.worker import WORKER
from agent.messages import children as said
from agent.messages.children import Message, StageTimes, StreamProgress, SwapReport
from agent.messages.payloads import CachePool
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

NOW_NS = 1_000_000_000
GATE = Gate(["line-1"], ["cam-1"])
GOOD = said.Detections("cam-1", "a:n@1", 5, NOW_NS - 5, b'"model":"a:n@1","objects":[]}', (("cap", 1),))
REPORT = SwapReport("cold", "make-before-break", 1.0, 1.0, 0.0, 0)
SWAPPED = said.Swapped("line-1", 1, "a:n@1", REPORT)
PROGRESS = StreamProgress("cam-1", NOW_NS, NOW_NS, 0, 0, NOW_NS)
POSSIBLE: list[Message] = [
    GOOD,
    SWAPPED,
    said.Breaking("line-1", 1),
    said.SwapFailed("line-1", 1, "a:n@1", None, "no_memory", ""),
    said.PrepareFailed("line-1", 1, "a:n@1", "no_memory", ""),
    said.InferenceFailed("cam-1", "a:n@1", 8, ""),
    said.CacheState(1, 0, ()),
    said.CacheState(
        1, 0, (said.ResidentModel("a:n@1", 0, "active", "", None, {"host": 5}),), {"host": CachePool(1, 0)}
    ),
    said.MemoryKept(0, ()),
    said.Beat(0, (PROGRESS,)),
    said.ThreadCrashed("loader", ""),
    said.Hello(1, {}),
]
IMPOSSIBLE: list[Message] = [
    msgspec.structs.replace(GOOD, stream="cam-9"),
    msgspec.structs.replace(GOOD, captured_ns=NOW_NS + 1),
    msgspec.structs.replace(GOOD, captured_ns=-1),
    msgspec.structs.replace(GOOD, frame=-1),
    msgspec.structs.replace(GOOD, counts=(("cap", -1),)),
    msgspec.structs.replace(GOOD, tail=b""),
    msgspec.structs.replace(GOOD, tail=b'"objects":['),
    msgspec.structs.replace(GOOD, stages_ms=StageTimes(infer=math.nan)),
    msgspec.structs.replace(GOOD, stages_ms=StageTimes(wait=-math.inf)),
    msgspec.structs.replace(SWAPPED, line="line-9"),
    msgspec.structs.replace(SWAPPED, report=msgspec.structs.replace(REPORT, load_ms=math.inf)),
    msgspec.structs.replace(SWAPPED, report=msgspec.structs.replace(REPORT, frames_lost=-1)),
    said.Breaking("", 1),
    said.SwapFailed("line-9", 1, "a:n@1", None, "no_memory", ""),
    said.Prepared("line-9", 1, "a:n@1"),
    said.PrepareFailed("line-9", 1, "a:n@1", "no_memory", ""),
    said.InferenceFailed("cam-9", "a:n@1", 8, ""),
    said.InferenceFailed("cam-1", "a:n@1", -8, ""),
    said.CacheState(-1, 0, ()),
    said.CacheState(1, 0, (said.ResidentModel("a:n@1", -5, "active", ""),)),
    said.CacheState(1, 0, (said.ResidentModel("a:n@1", 0, "active", "", None, {"device": -5}),)),
    said.CacheState(1, 0, (), {"device": CachePool(1, -1)}),
    said.CacheState(1, 0, (), None, -1),
    said.MemoryKept(-1, ()),
    said.Beat(0, (msgspec.structs.replace(PROGRESS, stream="cam-9"),)),
    said.Beat(0, (msgspec.structs.replace(PROGRESS, answered_ns=NOW_NS + 1),)),
    said.Beat(0, (msgspec.structs.replace(PROGRESS, missed=-1),)),
]


@pytest.mark.parametrize("message", POSSIBLE, ids=repr)
def test_what_can_be_passes(message: Message) -> None:
    assert GATE.why_not(message, NOW_NS) is None


@pytest.mark.parametrize("message", IMPOSSIBLE, ids=repr)
def test_what_cannot_be_is_refused(message: Message) -> None:
    assert GATE.why_not(message, NOW_NS)


def test_a_camera_speaks_of_its_own_stream() -> None:
    assert GATE.why_not_of_camera("cam-1", said.CameraEnded("cam-1")) is None
    assert GATE.why_not_of_camera("cam-1", said.CameraEnded("cam-2"))
    assert GATE.why_not_of_camera("cam-1", said.Hello(1, {})) is None


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[AgentHere]:
    """Give a running agent that a test can speak to as its children do."""
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        made = AgentHere(tmp_path, mosquitto.url, peer, lambda _settings: None)
        made.sensors = Sensors()
        made.start()
        made.until_said("status", "online")
        made.ready("bottle-500")
        yield made
        made.kill()


def test_control_outlives_whatever_its_children_say(agent: AgentHere) -> None:
    ever = [message for message in IMPOSSIBLE if GATE.why_not(message, 1 << 62)]  # whatever the time is
    for message in ever:
        agent.say(WORKER, message)
    for camera in (said.CameraEnded("cam-9"), said.CameraFailed("cam-2", "another's")):
        agent.say("camera cam-1", camera)
    agent.until(lambda: _refused(agent) == len(ever) + 2)
    mark = len(agent.heard)
    agent.until(lambda: len(agent.detections("cam-1", mark)) > 5)
    assert agent.value("line/line-1/ready") == "bottle-500"
    assert agent.value("stream/cam-2/status") == "online"


def _refused(agent: AgentHere) -> int | None:
    """Return the refused messages as `health` last told."""
    count: int | None = json.loads(agent.value("health") or "{}").get("worker", {}).get("refused_messages")
    return count
