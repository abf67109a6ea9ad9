"""The board keeps the newest of each topic, short histories, and never more than its bounds."""

import asyncio
import json
import time
from typing import Any

import msgspec
import pytest

from agent.messages.payloads import Alert, Cause, Health, StreamHealth, Switch
from agent.web.console.board import CHANGEOVERS, CHANGES, MOST_TOPICS, POINTS, Board

TIME = "2026-01-01T06:00:00.000Z"


def of(board: Board, topic: str) -> Any:  # noqa: ANN401 - what JSON can hold
    return json.loads(board.document(topic))["doc"]


def switch(number: int) -> bytes:
    one = Switch(
        line="line-1",
        product="p",
        from_="a:n@1",
        to="b:n@1",
        cause=Cause("product"),
        result="switched",
        reason=None,
        residency="cold",
        order=None,
        requested_at=TIME,
        ready_at=TIME,
        load_ms=1.0,
        warmup_ms=2.0,
        total_ms=number,
        blind_ms=0.0,
        frames_lost=0,
    )
    return msgspec.json.encode(one)


def health() -> bytes:
    stream = StreamHealth(9.9, {"p50": 20.0, "p99": 40.0}, 1, 1, 0)
    return msgspec.json.encode(Health(TIME, {"cam": stream}, {}, [], {}, None, {}, 0.0, None))


def test_plain_topics_are_text_and_others_json() -> None:
    board = Board()
    board.take("line/line-1/ready", b"17")
    board.take("line/line-1/state", b'{"product":"17"}')
    assert of(board, "line/line-1/ready") == "17"
    assert of(board, "line/line-1/state") == {"product": "17"}
    board.take("line/line-1/state", b"")
    assert of(board, "line/line-1/state") is None


@pytest.mark.parametrize("id_", ["model", "car-model", "live", "ready", "status", "switch", "detections", "ack"])
def test_an_id_may_be_any_word(id_: str) -> None:
    board = Board()
    for topic in (f"line/{id_}/state", f"line/{id_}/canary", f"job/{id_}/state"):
        board.take(topic, b'{"v":1}')
        assert of(board, topic) == {"v": 1}, topic
    for topic in (f"line/{id_}/ready", f"line/{id_}/model/state", f"stream/{id_}/status"):
        board.take(topic, b"17")
        assert of(board, topic) == "17", topic
    board.take(f"line/{id_}/switch", switch(3))
    assert [one["total_ms"] for one in of(board, f"console/changeovers/{id_}")] == [3]


def test_what_comes_once_is_kept_as_a_short_history() -> None:
    board = Board()
    for number in range(CHANGEOVERS + 5):
        board.take("line/line-1/switch", switch(number))
    kept = of(board, "console/changeovers/line-1")
    assert [one["total_ms"] for one in kept] == list(range(5, CHANGEOVERS + 5))
    for number in range(CHANGES + 5):
        board.take("alert", msgspec.json.encode(Alert("camera", on=bool(number % 2), stream="cam")))
    assert len(of(board, "console/changes")) == CHANGES
    for _ in range(POINTS + 5):
        board.take("health", health())
    points = json.loads(board.curves())["cam"]
    assert (len(points), points[0][1:]) == (POINTS, [9.9, 20.0, 40.0])


def test_a_clock_that_is_set_back_leaves_no_points_of_the_future(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board()
    for now_s in (100.0, 105.0, 110.0, 103.0, 108.0):
        monkeypatch.setattr(time, "time", lambda at=now_s: at)
        board.take("health", health())
    assert [one[0] for one in json.loads(board.curves())["cam"]] == [100.0, 103.0, 108.0]


def test_frames_are_not_state() -> None:
    board = Board()
    for name in ("detections", "replay", "summary"):
        board.take(f"stream/cam/{name}", b"{}")
    board.take("ack", b"{}")
    assert json.loads(board.snapshot()) == []


def test_topics_are_bounded() -> None:
    board = Board()
    for number in range(MOST_TOPICS + 10):
        board.take(f"job/{number}/state", b"{}")
    assert len(json.loads(board.snapshot())) == MOST_TOPICS


def test_a_slow_reader_gets_the_newest_of_each_topic_only() -> None:
    board = Board()
    reader = board.open_reader()
    for number in range(1000):
        board.take("line/line-1/live", str(number).encode())
        board.take("line/line-1/phase", b"ready")
    changes = asyncio.run(reader.changes(1.0))
    assert [json.loads(one)["doc"] for one in changes] == ["999", "ready"]
    assert reader.folded == 2 * 999
    board.close_reader(reader)
    board.take("line/line-1/phase", b"idle")
    assert asyncio.run(reader.changes(0.01)) == [], "a reader that was closed hears nothing"
