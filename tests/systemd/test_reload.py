"""The unit's steps of a reload, done in their order beside a running agent, as systemd would."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

UNIT = Path(__file__).parents[2] / "systemd" / "changeover.service"


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[RunningAgent]:
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        made = RunningAgent(tmp_path, mosquitto.url, peer, lambda _: None)
        made.start()
        made.until_said("status", "online")
        yield made
        made.kill()


def reload(agent: RunningAgent) -> "subprocess.CompletedProcess[str]":
    """Do each ExecReload= until one fails; return the last."""
    steps = re.findall(r"^ExecReload=(.+)$", UNIT.read_text(), re.MULTILINE)
    for step in steps:
        command = step.replace("/opt/changeover/current/bin/changeover", f"{sys.executable} -m agent")
        command = command.replace("/etc/changeover/changeover.toml", str(agent.config))
        command = command.replace("$MAINPID", str(agent.process.pid))
        answer = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=120)
        if answer.returncode:
            break
    return answer


def test_a_mistake_fails_it_and_what_runs_stays(agent: RunningAgent) -> None:
    right = agent.config.read_text()
    agent.send("line/line-1/product/set", "bottle-500")
    agent.until_said("line/line-1/ready", "bottle-500")
    mark = len(agent.heard)
    for old, new, words in (
        ("[mqtt]", "[mqtt", "expected a table's name between [ and ]"),
        ('"alpha"', '"alphabet"', 'found "alphabet"'),
    ):
        agent.config.write_text(right.replace(old, new, 1))
        answer = reload(agent)
        assert answer.returncode == 2
        assert words in answer.stdout
    agent.config.write_text(right.replace('17 = "beta"', '17 = "beta"\n"box-1" = "alpha"'))
    assert reload(agent).returncode == 0
    agent.send("line/line-1/product/set", "box-1")
    agent.until_said("line/line-1/ready", "box-1", mark)
    readies = [one.payload for one in agent.on("line/line-1/ready", mark)]
    assert readies == [b"0", b"box-1"], "the mistakes changed nothing"
