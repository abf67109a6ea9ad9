"""The plain client."""

import time

import pytest
from support.brokers import Mosquitto, free_port, settings_of

from agent.mqtt.blocking_client import BlockingClient, BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import ProtocolSetting


def url(port: int) -> str:
    return f"mqtt://127.0.0.1:{port}"


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_it_says_and_hears(mosquitto: Mosquitto, protocol: ProtocolSetting) -> None:
    with connected(settings_of(mosquitto.url, protocol=protocol)) as peer:
        peer.subscribe(["a/+"])
        before_s = time.monotonic()
        peer.publish("a/b", "hello")
        arrival = peer.receive(20)
        assert arrival is not None
        assert (arrival.topic, arrival.payload, arrival.retained) == ("a/b", b"hello", False)
        assert before_s <= arrival.at_s <= time.monotonic()
        assert peer.receive(0) is None


def test_it_hears_again_after_the_broker_came_back(mosquitto: Mosquitto) -> None:
    with connected(settings_of(mosquitto.url)) as peer, connected(settings_of(mosquitto.url)) as other:
        peer.subscribe(["a"])
        mosquitto.restart()
        deadline_s = time.monotonic() + 30
        arrival = None
        while arrival is None and time.monotonic() < deadline_s:
            try:
                other.publish("a", b"again", qos=1, timeout_s=1)
            except BlockingClientError:
                time.sleep(0.05)
            arrival = peer.receive(0.5)
        assert arrival is not None


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(BlockingClientError, match="no link to"):
        BlockingClient(settings_of(url(free_port()))).connect()
