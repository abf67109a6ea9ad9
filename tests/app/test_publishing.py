"""Publications of a stream: no more than configured, with summaries by a clock that does not jump."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from agent.app.outbound import detections
from agent.app.outbound.detections import DetectionPublisher
from agent.messages.children import Detections
from agent.messages.references import ModelReference
from agent.settings import Publish, StreamSettings


@dataclass
class Clocks:
    """Both clocks, in one hand."""

    monotonic_s: float = 100.0
    unix_s: float = 1767247200.0

    def monotonic(self) -> float:
        return self.monotonic_s

    def monotonic_ns(self) -> int:
        return int(self.monotonic_s * 1e9)

    def time(self) -> float:
        return self.unix_s

    def pass_(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.unix_s += seconds


@dataclass
class Wire:
    """Payloads that were sent."""

    detections: list[Any] = field(default_factory=list)
    summaries: list[Any] = field(default_factory=list)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    clocks = Clocks()
    monkeypatch.setattr(detections, "time", clocks)
    return clocks


def make(wire: Wire, publish: Publish) -> DetectionPublisher:
    stream = StreamSettings(id="cam-1", line="line-1", source="/dev/video0", publish=publish)
    return DetectionPublisher(
        "box-7",
        "9f3a51c2",
        (stream,),
        lambda _stream, payload: wire.detections.append(msgspec.json.decode(payload)),
        lambda _stream, payload: wire.summaries.append(msgspec.json.decode(payload)),
    )


def frame(*counts: tuple[str, int]) -> Detections:
    return Detections("cam-1", "cap-check:n@3", 0, 0, b'"objects":[]}', counts)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_summaries_go_on_each_second_wherever_the_wall_clock_goes(clocks: Clocks, jump_s: float) -> None:
    wire = Wire()
    one = make(wire, "summary")
    one.tick()
    clocks.unix_s += jump_s
    for _ in range(30):
        clocks.pass_(0.1)
        one.publish(frame(("cap", 2)))
        one.tick()
    assert len(wire.summaries) in {2, 3}
    assert all(said["counts"] == {"cap": 2 * said["frames"]} for said in wire.summaries)
    assert sum(said["frames"] for said in wire.summaries) in range(20, 31)
    assert all(said["from"] < said["to"] for said in wire.summaries)
    assert [said["seq"] for said in wire.summaries] == list(range(len(wire.summaries)))


@pytest.mark.parametrize(
    ("own", "rule", "detections"),
    [("all", "all", 3), ("all", "changes", 1), ("all", "summary", 0), ("changes", "all", 1), ("summary", "changes", 0)],
)
def test_a_bandwidth_rule_never_makes_a_stream_say_more(
    clocks: Clocks, own: Publish, rule: Publish, detections: int
) -> None:
    wire = Wire()
    one = make(wire, own)
    one.set_publish("cam-1", rule)
    for _ in range(3):
        clocks.pass_(0.1)
        one.publish(frame(("cap", 2)))
    assert len(wire.detections) == detections


def test_a_new_model_is_told_though_it_finds_the_same(clocks: Clocks) -> None:
    wire = Wire()
    one = make(wire, "changes")
    for model in ("cap-check:n@3", "cap-check:n@3", "cap-check:s@3", "cap-check:s@3"):
        clocks.pass_(0.1)
        one.publish(Detections("cam-1", model, 0, 0, b'"model":"%b"}' % model.encode(), (("cap", 2),)))
    assert [said["model"] for said in wire.detections] == ["cap-check:n@3", "cap-check:s@3"]


def told(one: DetectionPublisher, wire: Wire, captured_s: float, model: str) -> tuple[str | None, bool]:
    one.publish(Detections("cam-1", model, 0, int(captured_s * 1e9), b'"objects":[]}', ()))
    return wire.detections[-1]["product"], wire.detections[-1]["ready"]


def test_ready_is_captured_ready_and_inferred_by_the_products_own_model(clocks: Clocks) -> None:
    del clocks
    wire = Wire()
    one = make(wire, "all")
    caps, labels = (ModelReference("cap-check"),), (ModelReference("label-check", "n", "1"),)
    one.line_changed("line-1", "bottle", int(10e9), caps)
    one.line_changed("line-1", "17", int(20e9))
    one.line_changed("line-1", "17", int(21e9), labels)
    one.line_changed("line-1", "bottle", int(30e9))
    assert told(one, wire, 5, "cap-check:n@3") == (None, False)
    assert told(one, wire, 15, "cap-check:n@3") == ("bottle", True)
    assert told(one, wire, 15, "cap-check:s@3") == ("bottle", True)
    assert told(one, wire, 15, "label-check:n@1") == ("bottle", False), "inferred after the flip"
    assert told(one, wire, 20.5, "label-check:n@1") == ("17", False), "captured before the line was ready"
    assert told(one, wire, 25, "cap-check:n@3") == ("17", False), "inferred before the flip"
    assert told(one, wire, 25, "label-check:n@1") == ("17", True)
    assert told(one, wire, 25, "label-check:n@2") == ("17", False), "the product names a version"
    assert told(one, wire, 35, "label-check:n@1") == ("bottle", False)


def test_of_a_frame_older_than_what_is_remembered_nobody_says_ready(clocks: Clocks) -> None:
    del clocks
    wire = Wire()
    one = make(wire, "all")
    for moment in range(1, 200):
        one.line_changed("line-1", f"p{moment}", moment * 10**9, (ModelReference("cap-check"),))
    assert told(one, wire, 199, "cap-check:n@3") == ("p199", True)
    assert told(one, wire, 100, "cap-check:n@3")[1] is False
