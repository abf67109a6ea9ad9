"""The whole agent where its disk or its credentials are no good: it goes on, and says so."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.brokers import Mosquitto
from support.running_agent import RunningAgent

from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings


@pytest.fixture
def make_agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Callable[..., RunningAgent]]:
    made: list[RunningAgent] = []
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "")) as peer:

        def make(changes: Callable[[dict[str, Any]], None]) -> RunningAgent:
            agent = RunningAgent(tmp_path, mosquitto.url, peer, changes)
            made.append(agent)
            agent.start()
            return agent

        yield make
        for agent in made:
            agent.kill()


def alerts(agent: RunningAgent) -> set[str]:
    said = agent.on("alerts")
    return {alert["code"] for alert in json.loads(said[-1].payload)} if said else set()


def changes(agent: RunningAgent) -> list[dict[str, Any]]:
    return [json.loads(one.payload) for one in agent.on("alert")]


def test_a_damaged_outbox_is_an_alert_and_the_line_runs(
    make_agent: Callable[..., RunningAgent], tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "outbox.db").write_bytes(b"\xa5" * 20_000)
    agent = make_agent(lambda _settings: None)
    agent.until(lambda: alerts(agent) == {"outbox_damaged"} and agent.detections("cam-1"))
    assert (tmp_path / "state" / "outbox.damaged-1.db").read_bytes() == b"\xa5" * 20_000
    agent.until(lambda: agent.on("health"))
    outbox = json.loads(agent.on("health")[-1].payload)["outbox"]
    assert {"events", "summaries", "detections", "events_dropped", "detections_dropped", "disk_bytes"} <= set(outbox)


def test_a_missing_password_is_no_end_and_all_comes_once_it_is_there(
    make_agent: Callable[..., RunningAgent], tmp_path: Path
) -> None:
    password = tmp_path / "password"

    def with_password(settings: dict[str, Any]) -> None:
        settings["mqtt"] |= {"username": "box", "password_file": str(password)}

    agent = make_agent(with_password)
    log = tmp_path / "agent.log"
    agent.until(lambda: "password_file" in log.read_text() and "event=stream_online" in log.read_text())
    # frames of three streams while nobody listens
    agent.until(lambda: (tmp_path / "state" / "outbox.db-wal").stat().st_size > 100_000)
    assert agent.process.poll() is None
    password.write_text("anything\n")
    agent.until_said("status", "online")
    agent.until(lambda: agent.on("stream/cam-1/replay") and agent.detections("cam-1"))
    first = json.loads(agent.on("stream/cam-1/replay")[0].payload)
    assert first["seq"] == 0
    agent.until(lambda: {"broker_refused"} == {one["code"] for one in changes(agent) if not one["on"]})
    assert log.read_text().count("no link to") == 1
