"""A whole agent with brokers that refuse, deny, are slow or take no wildcards: its line turns over."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.brokers import free_port, settings_of
from support.mini_broker import ACCEPT, CLOSE, MiniBroker, Rules
from support.running_agent import BASE, RunningAgent, one_stream

from agent.mqtt.blocking_client import BlockingClient, connected

FIELD = Path(__file__).parents[3] / "shared" / "cases" / "field" / "mini_broker5.py"
each_protocol = pytest.mark.parametrize("protocol", ["5", "3.1.1"])


@pytest.fixture
def broker() -> Iterator[MiniBroker]:
    broker = MiniBroker()
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def agent(broker: MiniBroker, tmp_path: Path, protocol: str) -> Iterator[RunningAgent]:
    """Give an agent that is not started."""

    def speaking(settings: dict[str, Any]) -> None:
        one_stream(settings)
        settings["mqtt"]["protocol"] = protocol

    with connected(settings_of(broker.url, "plc")) as peer:
        agent = RunningAgent(tmp_path, broker.url, peer, speaking)
        yield agent
        agent.kill()


def alerts(agent: RunningAgent) -> set[str]:
    return {json.loads(one.payload)["code"] for one in agent.on("alert")}


@each_protocol
@pytest.mark.parametrize(
    "rules",
    [
        Rules(wildcards=False),
        Rules(granted_after_s=1.0),
        Rules(active_after_s=1.0),
        Rules(on_subscribe=lambda one: CLOSE if one.endswith("line/+/ready") else ACCEPT),
        Rules(on_subscribe=lambda one: CLOSE if one.endswith("cmd/+") else ACCEPT),
        Rules(on_subscribe=lambda one: CLOSE if one.endswith("bandwidth/set") else ACCEPT),
        Rules(on_publish=lambda topic, _: CLOSE if topic.endswith("/cache") else ACCEPT),
    ],
    ids=[
        "nowild",
        "slow suback",
        "slow routes",
        "denies a sweep",
        "denies commands",
        "denies a topic",
        "denies a state",
    ],
)
def test_the_line_turns_over_by_an_order_that_is_sent_once(
    agent: RunningAgent, broker: MiniBroker, rules: Rules
) -> None:
    broker.rules = rules
    agent.start()
    agent.until_said("status", "online")
    if rules.on_publish(f"{BASE}/cache", b"") == CLOSE:
        agent.until(lambda: b"cache" in b"".join(one.payload for one in agent.on("alert")))
        agent.until(lambda: agent.value("status") == "online")
    agent.ready("bottle-500")
    assert "duplicate_device" not in alerts(agent)
    assert "duplicate_device" not in agent.log()


@pytest.mark.parametrize("protocol", ["5"])
@pytest.mark.parametrize("code", [0x80, 0x83, 0x97])
def test_a_refused_ready_0_is_seen_within_five_seconds(agent: RunningAgent, broker: MiniBroker, code: int) -> None:
    agent.start()
    agent.until_said("status", "online")
    agent.ready("bottle-500")
    left = [code, code]
    broker.rules = Rules(on_publish=lambda topic, _: left.pop() if topic.endswith("line-1/ready") and left else ACCEPT)
    mark, began_s = len(agent.heard), time.monotonic()
    agent.send("line/line-1/product/set", "pallet")
    agent.until_said("line/line-1/ready", "0", mark)
    assert time.monotonic() - began_s < 5
    assert not left


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
