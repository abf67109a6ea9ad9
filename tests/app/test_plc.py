"""A PLC beside a running agent: every payload form in both versions of the protocol, on topics of its own."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.plc import FORMS, plc
from support.running_agent import BASE, RunningAgent

from agent.mqtt.endpoint.link_settings import ProtocolVersion

PLAIN, PATH, BOTH = "plant/a/plc7/recipe", "plant/a/plc7/order", "plant/a/shared"


def catch_up(agent: RunningAgent) -> None:
    """Wait for the answer to a question that stands behind all that was sent."""
    agent.send("line/line-2/product/set", '{"value": "open", "id": "behind"}')
    agent.until(lambda: agent.answers("behind"))


def bound(protocol: str) -> Callable[[dict[str, Any]], None]:
    def change(settings: dict[str, Any]) -> None:
        settings["mqtt"]["protocol"] = protocol
        settings["line"]["line-1"]["products"] |= {"Käse": "beta", "true": "beta"}
        settings["line"]["line-2"]["products"]["17"] = "alpha"
        settings["binding"] = [
            {"topic": PLAIN, "line": "line-1"},
            {"topic": PATH, "line": "line-1", "value": "$.recipe.id"},
            {"topic": BOTH, "line": "line-1"},
            {"topic": BOTH, "line": "line-2", "value": "$.open"},
        ]

    return change


@pytest.fixture(scope="module", params=["5", "3.1.1"])
def spoken(
    request: pytest.FixtureRequest, make_module_agent: Callable[..., RunningAgent], module_mosquitto: Mosquitto
) -> Iterator[tuple[RunningAgent, ProtocolVersion]]:
    """Give an agent, and the version of the protocol that it and its PLC speak."""
    protocol: ProtocolVersion = request.param
    agent = make_module_agent(bound(protocol), f"speaks-{protocol}")
    agent.until_said("status", "online")
    yield agent, protocol
    agent.stop()
    with plc(module_mosquitto.port, protocol) as peer:
        for topic in (PLAIN, PATH, BOTH):
            peer.publish(topic, "", retain=True)


def test_every_form_that_a_plc_may_send(
    spoken: tuple[RunningAgent, ProtocolVersion], module_mosquitto: Mosquitto
) -> None:
    agent, protocol = spoken
    with plc(module_mosquitto.port, protocol) as peer:
        for form in FORMS:
            agent.ready("crate")
            for retain in (True, False):
                mark = len(agent.heard)
                peer.publish(PATH if form.path else PLAIN, form.payload, retain=retain)
                agent.until(lambda mark=mark: agent.on("ack", mark))  # type: ignore[misc]
                answers = [json.loads(one.payload) for one in agent.on("ack", mark)]
                assert answers[0]["result"] in {"accepted", "done", "noop"}, (form, answers)
                agent.until(lambda: agent.value("line/line-1/ready") == form.product)  # noqa: B023 - called at once
            assert json.loads(agent.value("line/line-1/state") or "")["cause"]["value"] == form.product


def test_one_topic_for_two_lines_with_a_path_and_without(
    spoken: tuple[RunningAgent, ProtocolVersion], module_mosquitto: Mosquitto
) -> None:
    agent, protocol = spoken
    with plc(module_mosquitto.port, protocol) as peer:
        agent.ready("crate")
        mark = len(agent.heard)
        peer.publish(BOTH, '{"value": "17", "open": "open", "id": "w1"}', retain=True)
        agent.until_said("line/line-1/ready", "17", mark)
        agent.until_said("line/line-2/ready", "open", mark)
        mark = len(agent.heard)
        peer.publish(BOTH, "bottle-500")
        agent.until_said("line/line-1/ready", "bottle-500", mark)
        agent.until(lambda: any(b"not_understood" in one.payload for one in agent.on("ack", mark)))
        assert not agent.on("line/line-2/ready", mark), "what one line cannot read there changes nothing for it"


def test_a_register_that_is_sent_all_the_time_is_one_change(
    make_agent: Callable[..., RunningAgent], mosquitto: Mosquitto
) -> None:
    agent = make_agent(bound("auto"))
    agent.until_said("status", "online")
    with plc(mosquitto.port, "3.1.1") as peer:
        mark = len(agent.heard)
        for _ in range(500):
            peer.publish(PLAIN, "17", qos=0)
        peer.publish(f"{BASE}/line/line-2/product/set", "open")
        agent.until_said("line/line-2/ready", "open", mark)
        agent.until_said("line/line-1/ready", "17", mark)
        agent.until(lambda: len(agent.on("ack", mark)) > 500 and agent.on("line/line-1/switch", mark))
        catch_up(agent)
        assert [one.payload for one in agent.on("line/line-1/ready", mark)][-1:] == [b"17"]
        assert len(agent.on("line/line-1/switch", mark)) == 1
