"""Clearing a device's retained topics: its own, and nothing of a PLC's."""

import json
import subprocess

import pytest
from support.brokers import Mosquitto

from agent.messages.errors import MistakeError, TransientError
from agent.messages.topics import Topics
from agent.mqtt.blocking_client import connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.mqtt.retained_cleanup import clear_retained
from agent.settings import MqttSettings

TOPICS = Topics("changeover/v1", "box")
OWN = (
    "status",
    "meta",
    "alerts",
    "cache",
    "line/line-1/ready",
    "line/line-1/state",
    "line/gone/model/state",
    "stream/cam-1/status",
)
OTHERS = ("line/line-1/product/set", "line/line-1/model/set", "schedule/set")


def fill(mosquitto: Mosquitto, status: bytes) -> None:
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "filler")) as peer:
        for name in (*OWN, *OTHERS):
            peer.publish(f"{TOPICS.base}/{name}", status if name == "status" else json.dumps(name), retain=True)
        peer.publish("changeover/v1/box-2/status", b"online", retain=True)


def retained(mosquitto: Mosquitto) -> set[str]:
    with connected(LinkSettings("127.0.0.1", mosquitto.port, "looker")) as peer:
        peer.subscribe(["changeover/#"])
        return {one.topic for one in peer.arrivals(1.0) if one.retained}


def test_its_own_go_and_a_plc_s_and_another_device_s_stay(mosquitto: Mosquitto) -> None:
    fill(mosquitto, b"stopped")
    cleared = clear_retained(MqttSettings(url=mosquitto.url), TOPICS, ["line-1"], ["cam-1"])
    assert cleared == len(OWN)
    assert retained(mosquitto) == {"changeover/v1/box-2/status", *(f"{TOPICS.base}/{name}" for name in OTHERS)}


def test_a_device_that_is_online_keeps_them(mosquitto: Mosquitto) -> None:
    fill(mosquitto, b"online")
    with pytest.raises(MistakeError, match="is online: stop it first"):
        clear_retained(MqttSettings(url=mosquitto.url), TOPICS, ["line-1"], ["cam-1"])
    assert f"{TOPICS.base}/line/line-1/ready" in retained(mosquitto)


def test_without_the_broker_it_says_how() -> None:
    with pytest.raises(TransientError, match=r"mosquitto_sub -h 127.0.0.1 -p 1 -t 'changeover/v1/box/#' --rem"):
        clear_retained(MqttSettings(url="mqtt://127.0.0.1:1"), TOPICS, [], [])


def test_what_it_says_works(mosquitto: Mosquitto) -> None:
    fill(mosquitto, b"stopped")
    with pytest.raises(TransientError) as raised:
        clear_retained(MqttSettings(url="mqtt://127.0.0.1:1"), TOPICS, [], [])
    command = str(raised.value).partition("reached: ")[2].replace("-p 1 ", f"-p {mosquitto.port} ")
    subprocess.run(["bash", "-c", command], check=False, capture_output=True, timeout=60)
    assert retained(mosquitto) == {"changeover/v1/box-2/status"}
