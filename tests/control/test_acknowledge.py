"""An alert that somebody has seen says so, until it is cleared."""

import json
from typing import Any

from support.plant_bench import BASE, Bench, acks

from agent.control.actions import Action, PublishState
from agent.control.events import StreamChanged
from agent.messages.events import Received


def send(bench: Bench, user: str = "anna", **content: Any) -> list[Action]:  # noqa: ANN401 - JSON
    return bench.give(Received(f"{BASE}/cmd/acknowledge", json.dumps(content).encode(), user=user))


def listed(actions: list[Action]) -> list[dict[str, Any]]:
    return next(json.loads(one.payload) for one in actions if isinstance(one, PublishState) and one.topic == "alerts")


def test_an_alert_is_acknowledged_once_by_name(bench: Bench) -> None:
    stream = next(iter(bench.state.streams))
    bench.give(StreamChanged(stream, "stalled", "no frame"))
    actions = send(bench, id="a1", code="camera", stream=stream)
    assert [(one.id, one.result) for one in acks(actions)] == [("a1", "done")]
    seen = next(one for one in listed(actions) if one["stream"] == stream)
    assert seen["acknowledged_by"] == "anna"
    again = send(bench, user="bob", id="a2", code="camera", stream=stream)
    assert [(one.id, one.result) for one in acks(again)] == [("a2", "noop")]


def test_the_next_time_it_is_new(bench: Bench) -> None:
    stream = next(iter(bench.state.streams))
    bench.give(StreamChanged(stream, "stalled"))
    send(bench, code="camera", stream=stream)
    bench.give(StreamChanged(stream, "online"))
    actions = bench.give(StreamChanged(stream, "stalled"))
    assert "acknowledged_by" not in next(one for one in listed(actions) if one["stream"] == stream)


def test_what_is_not_on_is_refused(bench: Bench) -> None:
    for content in ({}, {"code": "camera"}, {"code": ["camera"]}, {"code": "worker_hung", "line": {"a": 1}}):
        (ack,) = acks(send(bench, **content))
        assert (ack.result, ack.reason) == ("rejected", "not_understood")


def test_a_command_of_the_broker_has_no_name(bench: Bench) -> None:
    stream = next(iter(bench.state.streams))
    bench.give(StreamChanged(stream, "stalled"))
    actions = send(bench, user="", code="camera", stream=stream)
    assert next(one for one in listed(actions) if one["stream"] == stream)["acknowledged_by"] == "mqtt"
