"""A whole agent with brokers that refuse, deny, are slow or take no wildcards: its line turns over."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.brokers import free_port, settings_of
from support.mini_broker import ACCEPT, CLOSE, MiniBroker, Rules
from support.running_agent import BASE, RunningAgent, one_stream
from support.waiting import together

from agent.mqtt.blocking_client import BlockingClient, connected

FIELD = Path(__file__).parents[3] / "shared" / "cases" / "field" / "mini_broker5.py"
PROTOCOLS = ("5", "3.1.1")


Make = Callable[[str, str], tuple[RunningAgent, MiniBroker]]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """`make(name, protocol)` gives an agent that is not started, and its broker."""
    with ExitStack() as stack:

        def make_both(name: str, protocol: str) -> tuple[RunningAgent, MiniBroker]:
            def speaking(settings: dict[str, Any]) -> None:
                one_stream(settings)
                settings["mqtt"]["protocol"] = protocol

            broker = MiniBroker()
            broker.start()
            stack.callback(broker.stop)
            peer = stack.enter_context(connected(settings_of(broker.url, "plc")))
            agent = RunningAgent(tmp_path / f"{name} {protocol}", broker.url, peer, speaking)
            stack.callback(agent.kill)
            return agent, broker

        yield make_both


def alerts(agent: RunningAgent) -> set[str]:
    return {json.loads(one.payload)["code"] for one in agent.on("alert")}


RULES = {
    "nowild": Rules(wildcards=False),
    "slow suback": Rules(granted_after_s=1.0),
    "slow routes": Rules(active_after_s=1.0),
    "denies a sweep": Rules(on_subscribe=lambda one: CLOSE if one.endswith("line/+/ready") else ACCEPT),
    "denies commands": Rules(on_subscribe=lambda one: CLOSE if one.endswith("cmd/+") else ACCEPT),
    "denies a topic": Rules(on_subscribe=lambda one: CLOSE if one.endswith("bandwidth/set") else ACCEPT),
    "denies a state": Rules(on_publish=lambda topic, _: CLOSE if topic.endswith("/cache") else ACCEPT),
}


@pytest.mark.parametrize("names", [[*RULES][:2], [*RULES][2:4], [*RULES][4:6], [*RULES][6:]], ids=", ".join)
def test_the_line_turns_over_by_an_order_that_is_sent_once_in_both_protocols(make: Make, names: list[str]) -> None:
    together(
        {
            f"{name} in {protocol}": partial(turns_over, *make(name, protocol), RULES[name])
            for name in names
            for protocol in PROTOCOLS
        }
    )


def turns_over(agent: RunningAgent, broker: MiniBroker, rules: Rules) -> None:
    broker.rules = rules
    agent.start()
    agent.until_said("status", "online")
    if rules.on_publish(f"{BASE}/cache", b"") == CLOSE:
        agent.until(lambda: b"cache" in b"".join(one.payload for one in agent.on("alert")))
        agent.until(lambda: agent.value("status") == "online")
    agent.ready("bottle-500")
    assert "duplicate_device" not in alerts(agent)
    assert "duplicate_device" not in agent.log()


def test_a_refused_ready_0_is_seen_within_five_seconds(make: Make) -> None:
    agent, broker = make("refuses", "5")
    agent.start()
    agent.until_said("status", "online")
    for code in (0x80, 0x83, 0x97):
        broker.rules = Rules()
        agent.ready("bottle-500")
        left = [code, code]
        broker.rules = Rules(on_publish=partial(refused_twice, left))
        mark, began_s = len(agent.heard), time.monotonic()
        agent.send("line/line-1/product/set", "pallet")
        agent.until_said("line/line-1/ready", "0", mark)
        assert time.monotonic() - began_s < 5
        assert not left


def refused_twice(left: list[int], topic: str, _payload: bytes) -> int:
    return left.pop() if topic.endswith("line-1/ready") and left else ACCEPT


@contextmanager
def field_broker(port: int, mode: str, said: Path) -> Iterator[None]:
    command = [sys.executable, "-u", str(FIELD), str(port), mode, "120"]
    with said.open("w") as out, subprocess.Popen(command, stdout=out) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.skipif(not FIELD.exists(), reason="the cases from the field are not here")
@pytest.mark.parametrize("mode", ["quota", "denies", "nowild", "slowsub", "plain"])
def test_cases_from_the_field(tmp_path: Path, mode: str) -> None:
    port = free_port()

    def as_the_plc_wants(settings: dict[str, Any]) -> None:
        settings["stream"] = [{**settings["stream"][0], "line": "a"}]
        settings["line"] = {"a": {"default": "alpha", "products": {"bottle": "alpha"}}}

    class Deaf(BlockingClient):
        """The scripted broker takes one client alone."""

        def subscribe(self, *_: object, **__: object) -> None:
            """Hear nothing."""

    agent = RunningAgent(tmp_path, f"mqtt://127.0.0.1:{port}", Deaf(settings_of("mqtt://127.0.0.1")), as_the_plc_wants)
    said = tmp_path / "said"

    def is_over() -> bool:
        text = said.read_text()
        before, _, after = text.partition("is refused once")
        return "ready b'bottle'" in before and (mode != "quota" or "ready b'0'" in after)

    with field_broker(port, mode, said):
        agent.start()
        limit_s = time.monotonic() + 90
        try:
            while not is_over():
                assert time.monotonic() < limit_s, f"{said.read_text()}\n{agent.log()[-3000:]}"
                time.sleep(0.05)
        finally:
            agent.kill()
    assert "a subscription was there: True" in said.read_text()
    assert "duplicate_device" not in agent.log()
