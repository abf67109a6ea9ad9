"""The plain client, and the embedded broker."""

import subprocess
import sys
import time

import pytest
from support.brokers import Mosquitto, free_port

from agent.mqtt.link_settings import LinkSettings, ProtocolSetting, Will, settings_of
from agent.mqtt.peer import Peer, PeerError, connected


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
            except PeerError:
                time.sleep(0.05)
            arrival = peer.receive(0.5)
        assert arrival is not None


def test_nobody_there_is_an_error() -> None:
    with pytest.raises(PeerError, match="no link to"):
        Peer(settings_of(url(free_port()))).connect()


def test_the_embedded_broker_retains_acknowledges_and_keeps_wills(embedded: int) -> None:
    will = Will("status", b"offline")
    leaving = Peer(LinkSettings("127.0.0.1", embedded, "leaving", protocol="3.1.1", will=will))
    with connected(settings_of(url(embedded))) as peer:
        peer.publish("kept", b"value", retain=True)
        leaving.connect()
        peer.subscribe(["kept", "status"])
        arrival = peer.receive(20)
        assert arrival is not None
        assert (arrival.payload, arrival.retained) == (b"value", True)
        client, leaving._client = leaving._client, None
        assert client is not None
        client._reconnect_on_failure = False
        client._reset_sockets()
        client.loop_stop()
        arrival = peer.receive(20)
        assert arrival is not None
        assert (arrival.topic, arrival.payload) == ("status", b"offline")


def test_the_embedded_broker_says_when_its_port_is_taken(mosquitto: Mosquitto) -> None:
    command = [sys.executable, "-m", "agent.mqtt.embedded", str(mosquitto.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    assert f"cannot start on 127.0.0.1:{mosquitto.port}" in done.stderr
    assert "in use" in done.stderr


def test_the_embedded_broker_ends_with_the_process_that_started_it() -> None:
    script = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-m', 'agent.mqtt.embedded', '0']);"
    script += "import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline().startswith("listening on")
        parent.kill()
        # its end of our pipe closes when it is gone
        assert parent.stdout.read() == ""
