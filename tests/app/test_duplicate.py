"""Two devices of one id on one broker: both say so and stand back, and the one that stays returns."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.running_agent import RunningAgent

HOLD_AND_QUIET_S = 60 + 30
QUIET_S = 12
"""Health comes every 5 s from whoever is there."""


def speaking(protocol: str) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        settings["mqtt"]["protocol"] = protocol

    return change


def is_alert(agent: RunningAgent, *, on: bool, since: int) -> bool:
    said = [json.loads(one.payload) for one in agent.on("alert", since)]
    return ("duplicate_device", on) in [(one["code"], one["on"]) for one in said]


def stand_back(make_agent: Callable[..., RunningAgent], protocol: str) -> tuple[RunningAgent, RunningAgent]:
    """Start two of one id, and return when both have left."""
    first = make_agent(speaking(protocol))
    first.until_said("status", "online")
    first.ready("bottle-500")
    mark = len(first.heard)
    second = make_agent(speaking(protocol), "twin")
    # a link that breaks, or a disk that is slow, just then: it is said when the hold is over
    first.until(lambda: is_alert(first, on=True, since=mark), HOLD_AND_QUIET_S + 60)
    first.until(lambda: all("stand_back" in one.log() for one in (first, second)), 120)
    return first, second


def silent_s(agent: RunningAgent, since_s: float) -> float:
    """Return for how long nobody has said how healthy it is."""
    return time.monotonic() - max([since_s, *(one.at_s for one in agent.on("health"))])


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_two_of_one_id_both_stand_back(make_agent: Callable[..., RunningAgent], protocol: str) -> None:
    first, second = stand_back(make_agent, protocol)
    first.until(lambda: first.value("line/line-1/ready") == "0")
    since_s = time.monotonic()
    # because one of them may have come back by now, and stands back again
    first.until(lambda: silent_s(first, since_s) > QUIET_S, HOLD_AND_QUIET_S + 60)
    assert first.value("line/line-1/ready") == "0"
    assert b"duplicate_device" in first.on("alerts")[-1].payload
    assert first.process.poll() is None
    assert second.process.poll() is None


@pytest.mark.soak
@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_one_that_stays_comes_back_by_itself(make_agent: Callable[..., RunningAgent], protocol: str) -> None:
    first, second = stand_back(make_agent, protocol)
    second.kill()
    mark, since_s = len(first.heard), time.monotonic()
    first.until_said("line/line-1/ready", "bottle-500", mark, deadline_s=HOLD_AND_QUIET_S + 60)
    assert time.monotonic() - since_s > HOLD_AND_QUIET_S - 15
    assert is_alert(first, on=False, since=mark)
    between = [one.payload for one in first.on("line/line-1/ready", mark)]
    assert between[-1] == b"bottle-500"
    assert set(between[:-1]) <= {b"0"}
