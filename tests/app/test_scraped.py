"""A real Prometheus scrapes a running agent: every query of the dashboard has data, every rule can be evaluated."""

import math
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.agent_here import AgentHere, Sensors
from support.brokers import Mosquitto
from support.monitoring import Prometheus, dashboard_queries, prometheus
from support.running_agent import DEADLINE_S

from agent.health.probes.dummy import DummyProbe
from agent.health.sensors.reading import Reading, Zone
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings

pytestmark = [
    pytest.mark.prometheus,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Debian's package prometheus"),
]
SENSORS = Reading(
    "dummy",
    board="Test Box",
    zones={"cpu": Zone(50.0, 99.0)},
    rails_w={"VDD_SOC": 2.4},
    power_w=7.8,
    gpu_load=0.4,
    slowed=(),
)


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[AgentHere]:
    def served(settings: dict[str, Any]) -> None:
        settings["http"]["bind"] = "127.0.0.1:0"

    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        made = AgentHere(tmp_path, mosquitto.url, peer, served)
        made.sensors = Sensors(DummyProbe(SENSORS))
        made.start()
        made.until_said("status", "online")
        yield made
        made.kill()


def without_data(server: Prometheus) -> set[str]:
    return {query for query in dashboard_queries() if not server.ask(query)}


def value(server: Prometheus, query: str) -> float:
    found = server.ask(query)
    return sum(float(one["value"][1]) for one in found) if found else math.nan


def test_every_query_has_data_and_every_rule_is_evaluated(agent: AgentHere, tmp_path: Path) -> None:
    agent.ready("open", "line-2")
    agent.ready("bottle-500")
    with prometheus(tmp_path, agent.http_port) as server:
        agent.until(lambda: value(server, "up") == 1)
        for product in ("17", "crate", "17"):
            agent.ready(product)
        limit_s = time.monotonic() + DEADLINE_S
        while left := without_data(server):
            assert time.monotonic() < limit_s, left
            time.sleep(0.5)
        assert value(server, 'changeover_swaps_total{line="line-1",result="switched"}') >= 3
        assert value(server, "sum(changeover_line_ready)") == 2
        assert value(server, "changeover_temperature_celsius") == 50.0
        assert value(server, "sum(rate(changeover_frames_inferred_total[20s]))") > 0
        rules = [rule for group in server.api("rules")["groups"] for rule in group["rules"]]
        assert [rule["name"] for rule in rules if rule["health"] != "ok"] == []
        agent.sensors.probe.reading = Reading("dummy", zones={"cpu": Zone(97.0, 99.0)})
        agent.until(lambda: value(server, 'ALERTS{alertname="ChangeoverHot"}') == 1)
