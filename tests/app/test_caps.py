"""Heat and want of memory lower the variants of a running agent, and let go; a sensor that hangs stops nothing."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from support.agent_here import AgentHere, Sensors
from support.brokers import Mosquitto
from support.running_agent import DEADLINE_S, model_entry

from agent.health.probes.dummy import DummyProbe
from agent.health.sensors import stress_caps
from agent.health.sensors.reading import Reading, Zone
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

COOL = Reading("dummy", board="Test Box", zones={"cpu": Zone(50.0, 99.0)}, power_w=7.8, slowed=())
HOT = replace(COOL, zones={"cpu": Zone(96.0, 99.0)})

Make = Callable[[Sensors], AgentHere]


@pytest.fixture
def make(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Make]:
    made: list[AgentHere] = []

    def two_sizes(settings: dict[str, Any]) -> None:
        catalog = tomlkit.parse((tmp_path / "models.toml").read_text()).unwrap()
        catalog["model"].append(model_entry(tmp_path, "alpha", "a", variant="s"))
        (tmp_path / "models.toml").write_text(tomlkit.dumps(catalog))
        settings["line"]["line-1"] |= {"variant": "s", "dwell_s": 0}

    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:

        def start(sensors: Sensors) -> AgentHere:
            agent = AgentHere(tmp_path, mosquitto.url, peer, two_sizes)
            agent.sensors = sensors
            made.append(agent)
            agent.start()
            agent.until_said("status", "online")
            return agent

        yield start
        for agent in made:
            agent.kill()


def newest(agent: AgentHere, topic: str) -> Any:  # noqa: ANN401 - JSON is any of its types
    return json.loads(agent.on(topic)[-1].payload)


def test_heat_lowers_the_variant_and_a_cool_device_takes_the_large_one_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress_caps, "CALM_S", 1.0)
    sensors = Sensors(DummyProbe(COOL))
    agent = make(sensors)
    agent.until_said("line/line-1/model/state", "alpha:s@1")
    agent.ready("bottle-500")
    mark = len(agent.heard)
    sensors.probe.reading = HOT
    agent.until_said("line/line-1/model/state", "alpha:n@1", mark)
    agent.until(lambda: newest(agent, "line/line-1/state")["model"] == "alpha:n@1")  # it is said after the model
    cause = newest(agent, "line/line-1/state")["cause"]
    assert (cause["rule"], cause["value"]) == ("temperature", "cpu 96.0 C, limit 99 C")
    assert cause["overrode"]["model"] == "alpha:s@1"
    agent.until(lambda: any(one["code"] == "hot" for one in newest(agent, "alerts")))
    agent.until(lambda: agent.on("health", mark) and newest(agent, "health")["caps"] == {"temperature": "n"})
    assert newest(agent, "health")["temperatures_c"] == {"cpu": 96.0}
    sensors.probe.reading = COOL
    cooled = len(agent.heard)
    agent.until_said("line/line-1/model/state", "alpha:s@1", cooled)
    agent.until(lambda: newest(agent, "alerts") == [])
    assert b"0" not in {one.payload for one in agent.on("line/line-1/ready", mark)}, "two variants are equally ready"


def test_want_of_memory_lowers_the_variant(make: Make) -> None:
    sensors = Sensors(DummyProbe(COOL))
    agent = make(sensors)
    agent.until_said("line/line-1/model/state", "alpha:s@1")
    sensors.host.reading = replace(sensors.host.reading, stalled=0.4)
    agent.until_said("line/line-1/model/state", "alpha:n@1")
    agent.until(lambda: newest(agent, "line/line-1/state")["model"] == "alpha:n@1")
    assert newest(agent, "line/line-1/state")["cause"]["rule"] == "memory"
    agent.until(lambda: any(one["code"] == "memory_pressure" for one in newest(agent, "alerts")))


def test_health_says_what_the_sensors_say(make: Make) -> None:
    agent = make(Sensors(DummyProbe(COOL)))
    agent.until(lambda: agent.on("health"))
    health = newest(agent, "health")
    assert health["power_w"] == 7.8
    assert health["device"]["board"] == "Test Box"
    assert health["device"]["limits_c"] == {"cpu": 99.0}
    assert health["device"]["ages_s"].keys() == {"dummy", "memory"}


def test_a_sensor_that_hangs_does_not_stop_live(make: Make) -> None:
    hangs, let_go = threading.Event(), threading.Event()

    class Hung(DummyProbe):
        def read(self) -> Reading:
            hangs.set()
            let_go.wait(DEADLINE_S)
            return super().read()

    agent = make(Sensors(Hung(COOL)))
    agent.ready("bottle-500")
    assert hangs.is_set()
    mark = len(agent.heard)
    agent.until(lambda: len([one for one in agent.on("line/line-1/live", mark) if one.payload == b"bottle-500"]) >= 5)
    agent.until(lambda: agent.on("health", mark))
    assert newest(agent, "health")["temperatures_c"] == {}
    let_go.set()
