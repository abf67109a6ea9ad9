"""`meta` costs control little, because it is made anew whenever a model is loaded or unloaded."""

import json
from pathlib import Path

import pytest
from support.agent_here import AgentHere, Sensors
from support.brokers import Mosquitto

from agent.app.children.worker import name_of
from agent.messages.children import CacheState
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.settings import DEFAULT_GROUP, Settings

LAST_BYTES = 20


def test_the_settings_are_hashed_once(mosquitto: Mosquitto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    own = vars(Settings)["configuration_hash"]

    def counted(settings: Settings) -> str:
        hashed.append(own.fget(settings))
        return hashed[-1]

    monkeypatch.setattr(Settings, "configuration_hash", property(counted))
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "plc")) as peer:
        agent = AgentHere(tmp_path, mosquitto.url, peer, lambda _settings: None)
        agent.sensors = Sensors()
        agent.start()
        try:
            agent.until_said("status", "online")
            for used_bytes in range(1, LAST_BYTES + 1):
                agent.say(name_of(DEFAULT_GROUP), CacheState(1 << 30, used_bytes, ()))
            agent.until(lambda: any(json.loads(one.payload)["used_bytes"] == LAST_BYTES for one in agent.on("cache")))
            told = json.loads(agent.on("meta")[-1].payload)["configuration_hash"]
        finally:
            agent.kill()
    assert hashed == [told]
