"""Choice of the protocol version, against brokers that answer as the test says, byte for byte."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from support.station import Station

from agent.messages.events import LinkDown, LinkUp, Listening
from agent.mqtt.link.protocol_choice import ProtocolChoice
from agent.mqtt.outbox.outbox_item import Kind

CONNACK = b"\x20\x02\x00\x00"
SUBSCRIBE = 8


class OldBroker:
    """Speaks 3.1.1; closes on 5 without a word; refuses every subscription."""

    def __init__(self) -> None:
        self.versions: list[int] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def drop(self) -> None:
        self._connections[-1].shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listening.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._connections.append(connection)
            # a client that ends without a word resets the connection
            with connection, suppress(ConnectionError):
                self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        # CONNECT: fixed header (2), length and name "MQTT" (6), level
        version = connection.recv(4096)[8]
        self.versions.append(version)
        if version != 4:
            return
        connection.sendall(CONNACK)
        pending = b""
        while data := connection.recv(4096):
            pending += data
            while len(pending) >= 2 and len(pending) >= 2 + pending[1]:
                packet, pending = pending[: 2 + pending[1]], pending[2 + pending[1] :]
                if packet[0] >> 4 == SUBSCRIBE:
                    connection.sendall(b"\x90\x03" + packet[2:4] + b"\x80")


@pytest.fixture
def old_broker() -> Iterator[OldBroker]:
    broker = OldBroker()
    yield broker
    broker.close()


def test_a_broker_that_closes_on_5_is_spoken_to_in_3_1_1(
    old_broker: OldBroker, make_station: Callable[..., Station]
) -> None:
    station = make_station(old_broker.port)
    assert station.until_heard(LinkUp).protocol == "3.1.1"
    assert old_broker.versions == [5, 4]
    old_broker.drop()
    station.until_heard(LinkDown)
    assert station.until_heard(LinkUp).protocol == "3.1.1"
    assert old_broker.versions == [5, 4, 5, 4]
    old_broker.drop()
    station.until_heard(LinkDown)
    assert station.until_heard(LinkUp).protocol == "3.1.1"
    assert old_broker.versions == [5, 4, 5, 4, 4]
    station.link.stop([], 1)


def test_a_refused_subscription_is_told(old_broker: OldBroker, make_station: Callable[..., Station]) -> None:
    station = make_station(old_broker.port, protocol="3.1.1")
    station.until_heard(Listening)
    station.until(lambda: station.noticed)
    assert station.noticed[0].code == "rights_missing"
    detail = "changeover/v1/box-7/line/+/product/set: the broker refused a subscription: 0x80"
    assert detail in str(station.noticed[0].detail)
    station.link.stop([], 1)


def test_what_the_broker_would_never_take_is_told_and_not_kept(
    old_broker: OldBroker, make_station: Callable[..., Station]
) -> None:
    station = make_station(old_broker.port, protocol="3.1.1")
    station.until_heard(LinkUp)
    station.publisher.send_event("plc/+/answers", b"x")
    station.until(lambda: any("no topic" in str(event) for event in station.heard))
    assert [notice.detail for notice in station.noticed if "no topic" in str(notice.detail)] == []
    station.until(lambda: station.depth(Kind.EVENT) == 0)
    station.link.stop([], 1)


def test_an_outright_refusal_is_remembered() -> None:
    choice = ProtocolChoice("auto")
    assert choice.failed(unsupported=True, answered=True)
    choice.accepted()
    choice.lost()
    assert choice.current == "3.1.1"


def test_another_refusal_changes_nothing() -> None:
    choice = ProtocolChoice("auto")
    assert not choice.failed(unsupported=False, answered=True)
    assert choice.current == "5"


@pytest.mark.parametrize("setting", ["5", "3.1.1"])
def test_a_set_version_is_kept(setting: str) -> None:
    choice = ProtocolChoice("5" if setting == "5" else "3.1.1")
    assert not choice.failed(unsupported=True, answered=True)
    choice.lost()
    assert choice.current == setting
