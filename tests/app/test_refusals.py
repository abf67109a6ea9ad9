"""Refused commands are told to people at most once a second, and none is forgotten in the count."""

import json

import pytest

from agent.app.outbound.refusals import Refusals
from agent.control.state import Now
from agent.messages.payloads import Ack


def refusal(number: int) -> Ack:
    return Ack(None, "root/box/line/line-1/product/set", "rejected", "unknown_product", f"no product '{number}'")


def test_the_first_is_told_at_once_and_a_flood_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    told: list[bytes] = []
    refusals = Refusals(told.append, "root/box")
    for tenth in range(31):
        for number in range(10):
            refusals.add(refusal(10 * tenth + number))
        refusals.tick(Now(100 + tenth / 10, 1.7e9 + tenth / 10))
    assert len(told) == 4
    last = json.loads(told[-1])
    assert [one["more"] for one in last] == [9, 99, 99, 99]
    assert last[-1]["detail"] == "no product '309'"
    assert last[-1]["topic"] == "line/line-1/product/set"
    lines = [one.getMessage() for one in caplog.records]
    assert len(lines) == 4
    assert "event=command_refused topic='line/line-1/product/set' reason=unknown_product" in lines[0]
    assert lines[1].endswith("more=99")


def test_the_rest_of_a_flood_is_told_without_a_further_refusal() -> None:
    told: list[bytes] = []
    refusals = Refusals(told.append, "root/box")
    refusals.add(refusal(1))
    refusals.tick(Now(100.0, 1.7e9))
    refusals.add(refusal(2))
    refusals.tick(Now(100.5, 1.7e9))
    assert len(told) == 1
    refusals.tick(Now(101.0, 1.7e9))
    refusals.tick(Now(102.0, 1.7e9))
    assert [one["detail"] for one in json.loads(told[-1])] == ["no product '1'", "no product '2'"]


def test_the_topic_keeps_the_last_eight() -> None:
    told: list[bytes] = []
    refusals = Refusals(told.append, "root/box")
    for second in range(20):
        refusals.add(refusal(second))
        refusals.tick(Now(100.0 + second, 1.7e9))
    assert [one["detail"] for one in json.loads(told[-1])] == [f"no product '{number}'" for number in range(12, 20)]
