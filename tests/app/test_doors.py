"""Topics that others may reach through the agent, and their leftovers on the broker."""

import json
import time
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from support.brokers import Mosquitto, retained
from support.running_agent import BASE, RunningAgent

from agent.mqtt.blocking_client import Arrival, connected
from agent.mqtt.endpoint.link_settings import LinkSettings

RECIPE = "plant/a/plc7/recipe"


def _ask(mosquitto: Mosquitto, topic: str, payload: str, answer_to: str) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    client.connect("127.0.0.1", mosquitto.port)
    client.loop_start()
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.ResponseTopic = answer_to
    client.publish(topic, payload, qos=1, properties=properties).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()


def _bound(settings: dict[str, Any]) -> None:
    settings["binding"] = [{"topic": RECIPE, "line": "line-1", "value": "$.id"}]


def test_an_answer_never_reaches_a_binding_or_another_device(
    make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto
) -> None:
    agent = make_agent(_bound)
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    others = ("changeover/v1/other/line/line-1/product/set", "changeover/v1", RECIPE)
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "ear")) as ear:
        ear.subscribe([*others, "plant/answers", f"{BASE}/ack", f"{BASE}/line/line-1/ready"])
        for number, answer_to in enumerate([*others, "plant/answers"]):
            # the binding reads the answer's id: as a product, it would turn the line over
            payload = json.dumps({"id": "crate", "value": f"no-such-{number}"})
            _ask(mosquitto, f"{BASE}/line/line-1/prepare", payload, answer_to)
        heard: list[Arrival] = []
        limit_s = time.monotonic() + 60
        while not any(one.topic == "plant/answers" for one in heard):
            assert time.monotonic() < limit_s, heard
            if (one := ear.receive(1.0)) is not None:
                heard.append(one)
    topics = [one.topic for one in heard if not one.retained]
    assert topics.count(f"{BASE}/ack") >= 1, "the answers are still given"
    assert not set(topics) & set(others)
    assert agent.value("line/line-1/ready") == "bottle-500"


def test_a_live_that_somebody_retained_is_cleared(
    make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto
) -> None:
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "somebody")) as somebody:
        for line in ("line-1", "gone"):
            somebody.publish(f"{BASE}/line/{line}/live", "bottle-500", retain=True)
    agent = make_agent()
    agent.until_said("status", "online")
    limit_s = time.monotonic() + 60
    while left := _retained_lives(mosquitto):
        assert time.monotonic() < limit_s, left
    agent.ready("bottle-500")
    agent.until_said("line/line-1/live", "bottle-500")


def test_a_comparison_that_the_agent_does_not_know_is_cleared(
    make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto
) -> None:
    """An agent whose state folder was lost knows nothing of the comparison that it had told as running."""
    told = json.dumps({"line": "line-1", "result": "running", "boot": "before"})
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "before")) as before:
        for line in ("line-1", "gone"):
            before.publish(f"{BASE}/line/{line}/canary", told, retain=True)
    agent = make_agent()
    agent.until_said("status", "online")
    limit_s = time.monotonic() + 60
    while left := list(retained(mosquitto.url, f"{BASE}/line/+/canary")):
        assert time.monotonic() < limit_s, left


def _retained_lives(mosquitto: Mosquitto) -> list[str]:
    return list(retained(mosquitto.url, f"{BASE}/line/+/live"))
