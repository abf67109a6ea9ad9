"""The embedded broker: it serves on loopback alone, comes back when it dies, and leaves nothing behind."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.brokers import Mosquitto

from agent.messages.errors import NotStartedError
from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.embedded import EmbeddedBroker, find_mosquitto
from agent.mqtt.endpoint.link_settings import LinkSettings, Will

DEADLINE_S = 60


def until(is_done: Callable[[], object]) -> None:
    limit_s = time.monotonic() + DEADLINE_S
    while not is_done():
        assert time.monotonic() < limit_s
        time.sleep(0.02)


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_it_retains_acknowledges_and_sends_wills(embedded: EmbeddedBroker, protocol: str) -> None:
    def settings(name: str, will: Will | None = None) -> LinkSettings:
        return LinkSettings("127.0.0.1", embedded.port, name, protocol=protocol, will=will)  # type: ignore[arg-type]

    leaving = BlockingClient(settings("leaving", Will("status", b"offline")))
    with connected(settings("staying")) as peer:
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


def test_it_listens_on_one_port_of_loopback_and_nowhere_else(embedded: EmbeddedBroker) -> None:
    assert embedded.pid is not None
    listening = [
        one.laddr for one in psutil.Process(embedded.pid).net_connections() if one.status == psutil.CONN_LISTEN
    ]
    assert [(one.ip, one.port) for one in listening] == [("127.0.0.1", embedded.port)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_its_death_is_noticed_and_it_comes_back_on_its_port(
    embedded: EmbeddedBroker, number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    first = embedded.pid
    assert first is not None
    with connected(LinkSettings("127.0.0.1", embedded.port, "early")):
        pass  # because mosquitto says "running" a moment before its loop, and forgets a SIGTERM in between
    psutil.Process(first).send_signal(number)
    until(lambda: embedded.pid not in {None, first})
    until(lambda: _answers(embedded.port))
    assert embedded.restarts == 1
    assert "event=embedded_broker_lost" in caplog.text


def test_one_whose_port_is_taken_says_so(mosquitto: Mosquitto) -> None:
    with pytest.raises(NotStartedError, match=f"embedded broker cannot start on 127.0.0.1:{mosquitto.port}: .*in use"):
        EmbeddedBroker(mosquitto.port).start()


def test_without_mosquitto_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("agent.mqtt.embedded._PLACES", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotStartedError, match="apt-get install mosquitto"):
        EmbeddedBroker(0).start()


def test_stopped_it_is_gone(embedded: EmbeddedBroker) -> None:
    pid = embedded.pid
    assert pid is not None
    embedded.stop()
    assert not psutil.pid_exists(pid)
    assert embedded.pid is None


def test_it_ends_with_the_process_that_started_it() -> None:
    script = (
        "import time; from agent.mqtt.embedded import EmbeddedBroker; broker = EmbeddedBroker(0); broker.start();"
        "print(broker.pid, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        broker = psutil.Process(int(parent.stdout.readline()))
        assert broker.name() == "mosquitto"
        parent.kill()
        parent.wait(DEADLINE_S)
        assert psutil.wait_procs([broker], DEADLINE_S)[1] == []


def test_it_does_not_run_as_root_where_its_package_has_an_account(embedded: EmbeddedBroker) -> None:
    if psutil.Process().uids().effective != 0 or not Path("/etc/passwd").read_text().count("\nmosquitto:"):
        pytest.skip("needs root, and mosquitto's own account")
    assert psutil.Process(embedded.pid).username() == "mosquitto"
    assert find_mosquitto()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
