"""A broker that freezes, dies and comes back: what it retains in the end is what is true."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

FROZEN_S = (9.0, 18.0, 36.0)
"""The first is longer than it takes to fill the window and to be behind for 5 s; a slow machine needs another one."""
THAWED_S = 5.0


@pytest.fixture(params=[True, False], ids=["persistent", "forgetful"])
def plant(
    request: pytest.FixtureRequest, make_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> Iterator[tuple[RunningAgent, Mosquitto]]:
    """Give an agent that is ready beside a broker that keeps its retained messages on disk, or does not."""
    broker = make_mosquitto(persistence=request.param)
    with connected(LinkSettings("127.0.0.1", broker.port, "plc")) as peer:
        agent = RunningAgent(tmp_path / "box", broker.url, peer, narrow)
        agent.start()
        try:
            agent.until_said("status", "online")
            agent.ready("bottle-500")
            yield agent, broker
        finally:
            agent.kill()


def narrow(settings: dict[str, Any]) -> None:
    """Let the link live through a long freeze, and say less where the way is narrow."""
    settings["mqtt"]["keepalive_s"] = 120
    settings["bandwidth"] = [{"line": "line-1", "below_kbps": 500, "publish": "summary"}]


def until_logged(agent: RunningAgent, words: str, times: int) -> None:
    agent.until(lambda: agent.log().count(words) >= times)


def test_ready_in_flight_when_a_frozen_broker_is_killed(plant: tuple[RunningAgent, Mosquitto]) -> None:
    agent, broker = plant
    broker.freeze()
    mark, up = len(agent.heard), agent.log().count("event=child_up child='worker'")
    agent.child("inference").kill()
    until_logged(agent, "event=child_up child='worker'", up + 1)
    broker.restart()
    agent.until_said("status", "online", mark)
    agent.until(lambda: agent.retained("line/line-1/ready") == "bottle-500")
    agent.ready("17")
    assert agent.retained("line/line-1/ready") == "17"


def test_zero_in_flight_when_a_frozen_broker_is_killed(plant: tuple[RunningAgent, Mosquitto]) -> None:
    agent, broker = plant
    broker.freeze()
    mark, hung = len(agent.heard), agent.log().count("event=child_lost child='camera cam-1'")
    agent.config.with_name("one.avi").unlink()
    agent.camera("cam-1").kill()
    until_logged(agent, "event=child_lost child='camera cam-1'", hung + 1)
    broker.restart()
    agent.until_said("line/line-1/ready", "0", mark)
    agent.until_said("status", "online", mark)
    assert agent.retained("line/line-1/ready") == "0"
    agent.until(lambda: agent.retained("line/line-2/model/state") == "beta:n@1")


def test_the_agents_own_measure_says_less_on_a_way_that_takes_nothing(
    plant: tuple[RunningAgent, Mosquitto],
) -> None:
    agent, broker = plant
    mark = len(agent.heard)
    assert not agent.on("stream/cam-1/summary", mark)
    for frozen_s in FROZEN_S:
        broker.freeze()
        time.sleep(frozen_s)
        broker.thaw()
        limit_s = time.monotonic() + THAWED_S
        agent.until(lambda: agent.on("stream/cam-1/summary", mark) or time.monotonic() > limit_s)  # noqa: B023 - called at once
        if agent.on("stream/cam-1/summary", mark):
            break
    assert agent.on("stream/cam-1/summary", mark)
    assert not agent.on("stream/cam-3/summary", mark), "that line has no such rule"
    after = len(agent.heard)
    agent.until(lambda: agent.detections("cam-1", after))
    assert json.loads(agent.on("stream/cam-1/summary", mark)[0].payload)["frames"] > 0
