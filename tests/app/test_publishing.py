"""Numbering and summing up what was inferred."""

import time

import msgspec
import pytest

from agent.app.publishing import Publishing
from agent.settings import StreamSettings


def test_a_wall_clock_that_is_set_back_stops_no_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    stream = StreamSettings(id="cam-1", line="line-1", source="/dev/video0", publish="summary")
    publishing = Publishing("box", "b", (stream,), lambda *_: None, lambda _stream, _seq, payload: sent.append(payload))
    wall_s, now_s = 1_800_000_000.0, time.monotonic()
    monkeypatch.setattr("agent.app.publishing.time.time", lambda: wall_s)
    monkeypatch.setattr("agent.app.publishing.time.monotonic", lambda: now_s)
    publishing.tick()
    for second in range(4):
        now_s += 1
        wall_s -= 3600 if second == 2 else -1
        publishing.tick()
    assert [msgspec.json.decode(one)["seq"] for one in sent] == [0, 1, 2, 3]
