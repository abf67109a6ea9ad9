"""Brokers that lack what `ready` needs: one clear reason, one alert, and no twin is suspected."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from support.station import Station

from agent.messages.events import LinkDown, LinkTakenOver


class Offering:
    """Answers each CONNECT with one CONNACK, and lets the connection stand."""

    def __init__(self, connack: bytes) -> None:
        self._connack = connack
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

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
            with connection, suppress(OSError):
                connection.recv(4096)
                connection.sendall(self._connack)
                connection.settimeout(30)
                while connection.recv(4096):
                    pass


@pytest.fixture
def offering() -> Iterator[Callable[[bytes], Offering]]:
    made: list[Offering] = []

    def make(connack: bytes) -> Offering:
        made.append(Offering(connack))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.usefixtures("dials_soon")
@pytest.mark.parametrize(
    ("connack", "words"),
    [
        (b"\x20\x05\x00\x00\x02\x24\x00", "no QoS 1"),
        (b"\x20\x05\x00\x00\x02\x25\x00", "retains nothing"),
        (b"\x20\x03\x00\x9b\x00", "QoS not supported"),
        (b"\x20\x03\x00\x9a\x00", "Retain not supported"),
    ],
)
def test_a_broker_without_qos_1_or_retain_is_refused_with_a_reason(
    offering: Callable[[bytes], Offering], make_station: Callable[..., Station], connack: bytes, words: str
) -> None:
    station = make_station(offering(connack).port, protocol="5")
    for _ in range(4):
        assert words in station.until_heard(LinkDown).detail
    assert [(one.code, one.on) for one in station.noticed] == [("broker_refused", True)]
    assert words in (station.noticed[0].detail or "")
    assert not any(isinstance(one, LinkTakenOver) for one in station.heard)
