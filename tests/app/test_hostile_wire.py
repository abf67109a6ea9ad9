"""Hostile payloads over a real broker: nothing falls over, nothing grows, nothing changes that should not."""

import random
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from support.brokers import Mosquitto
from support.hostile import payloads, unreadable
from support.plc import plc
from support.running_agent import BASE, RunningAgent

from agent.mqtt.endpoint.link_settings import ProtocolVersion

PLAIN, PATH = "plant/a/plc7/recipe", "plant/a/plc8/order"
HOSTILE = (
    *(f"{BASE}/line/line-1/{kind}" for kind in ("product/set", "model/set", "prepare")),
    *(f"{BASE}/line/{line}/product/set" for line in ("line-9", "y" * 300, "\N{SNOWMAN}")),
    *(
        f"{BASE}/{rest}"
        for rest in ("schedule/set", "bandwidth/set", "models/set", "cmd/rollback", "cmd/reload", "cmd/", "cmd/a/b")
    ),
    f"{BASE}/ping",
    PLAIN,
    PATH,
)
QUIET = tuple(f"{BASE}/line/line-2/{kind}" for kind in ("product/set", "model/set", "prepare"))
MOST_BYTES = 10 * 2**20
BATCH = 200


def speaking(protocol: str) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        settings["mqtt"]["protocol"] = protocol
        settings["binding"] = [
            {"topic": PLAIN, "line": "line-1"},
            {"topic": PATH, "line": "line-1", "value": "$.recipe"},
        ]

    return change


def attack(agent: RunningAgent, port: int, protocol: ProtocolVersion, seed: int, count: int) -> None:
    """Send `count` hostile messages, a fifth of them retained, and let the agent come after in between."""
    rng = random.Random(seed)
    with plc(port, protocol) as peer:
        for number, (one, other) in enumerate(zip(payloads(seed, count), unreadable(seed, count), strict=True), 1):
            if number % 10:
                peer.publish(rng.choice(HOSTILE), one, qos=number % 2, retain=rng.random() < 0.2)
            else:
                peer.publish(rng.choice(QUIET), other)
            if number % BATCH == 0:
                catch_up(agent, f"seed-{seed}-{number}")


def catch_up(agent: RunningAgent, id_: str) -> None:
    """Wait for the answer to a question that stands behind all that was sent."""
    agent.send("line/line-2/product/set", f'{{"value": "open", "id": "{id_}"}}')
    agent.until(lambda: agent.answers(id_))
    del agent.heard[:]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(1800)])])
def test_hostile_payloads_on_all_topics(
    make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto, protocol: ProtocolVersion, count: int
) -> None:
    agent = make_agent(speaking(protocol))
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    agent.ready("open", "line-2")
    attack(agent, mosquitto.port, protocol, 1, BATCH)
    control = psutil.Process(agent.process.pid)
    children = {child.pid for child in control.children()}
    before_bytes = control.memory_info().rss
    line_2 = {topic: agent.retained(topic) for topic in ("line/line-2/ready", "line/line-2/state")}
    attack(agent, mosquitto.port, protocol, 2, count)
    grown_bytes = control.memory_info().rss - before_bytes
    print(f"\nprotocol={protocol} messages={count} grown_bytes={grown_bytes}")  # noqa: T201 - a measured figure
    assert grown_bytes < MOST_BYTES
    assert {topic: agent.retained(topic) for topic in line_2} == line_2, "what is no value changes nothing"
    assert {child.pid for child in control.children()} == children
    assert "message_failed" not in agent.log()
    assert "Traceback" not in agent.log()
    agent.send("line/line-1/model/set", "auto")
    agent.ready("17")
    agent.ready("bottle-500")
