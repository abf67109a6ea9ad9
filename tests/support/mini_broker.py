"""A scripted broker of MQTT 5 and 3.1.1 on loopback, which refuses what a test says; no real one can be told to."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

ACCEPT: Final = 0
CLOSE: Final = -1
"""Close the connection instead of an answer."""
MUTE: Final = -2
"""Do not answer at all."""
_QUOTA: Final = 0x97


@dataclass(frozen=True)
class Seen:
    """One PUBLISH of a client, and how it was answered."""

    topic: str
    payload: bytes
    qos: int
    code: int
    at_s: float


@dataclass
class Rules:
    """Behaviour of the broker. `on_publish` and `on_subscribe` return a reason code, CLOSE or MUTE.

    `active_after_s`: a granted subscription delivers only so much later; `granted_after_s`: so late comes its SUBACK.
    """

    on_publish: Callable[[str, bytes], int] = lambda _topic, _payload: ACCEPT
    on_subscribe: Callable[[str], int] = lambda _filter: ACCEPT
    on_connect: Callable[[], int] = lambda: ACCEPT
    wildcards: bool = True
    unsubscribes: bool = True
    """False: an UNSUBSCRIBE closes the connection."""
    granted_after_s: float = 0.0
    active_after_s: float = 0.0
    connack_properties: bytes = b""
    disconnect_code: int | None = None
    """Sent before a CLOSE, in MQTT 5."""


@dataclass
class _Client:
    sock: socket.socket
    version: int = 5
    id: str = ""
    will: tuple[str, bytes] | None = None
    subscriptions: dict[str, int] = field(default_factory=dict)
    packet: int = 100
    sending: threading.Lock = field(default_factory=threading.Lock)

    def send(self, first: int, body: bytes) -> None:
        with self.sending, suppress(OSError):
            self.sock.sendall(bytes([first]) + _varint(len(body)) + body)


class MiniBroker:
    """Runs from `start` to `stop`; what clients did is in `seen`, `asked` and `connects`."""

    def __init__(self, rules: Rules | None = None, *, watched: str = "box") -> None:
        """Rules hold for clients whose id contains `watched`; others get all that they want."""
        self.rules = rules or Rules()
        self.seen: list[Seen] = []
        self.asked: list[str] = []
        self.left: list[str] = []
        self.delivered: list[str] = []
        """Topics that were delivered to watched clients."""
        self.connects = 0
        self.retained: dict[str, bytes] = {}
        self._watched = watched
        self._guard = threading.RLock()
        self._clients: list[_Client] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._threads: list[threading.Thread] = []
        self._is_over = False

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._spawn(self._accept)

    def stop(self) -> None:
        self._is_over = True
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        with self._guard:
            for client in list(self._clients):
                _shut(client.sock)
        for thread in self._threads:
            thread.join(10)

    def of(self, end: str) -> list[Seen]:
        """Return what was published on topics with this end."""
        with self._guard:
            return [one for one in self.seen if one.topic.endswith(end)]

    def accepted(self, end: str) -> list[bytes]:
        return [one.payload for one in self.of(end) if one.code == ACCEPT]

    def _spawn(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, name="mini broker", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                sock, _ = self._server.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = _Client(sock)
            self._spawn(lambda client=client: self._serve(client))  # type: ignore[misc]

    def _serve(self, client: _Client) -> None:
        is_polite = False
        try:
            while not is_polite:
                first = _read(client.sock, 1)[0]
                is_polite = not self._take(client, first, _read(client.sock, _length(client.sock)))
        except OSError:
            pass
        finally:
            with self._guard:
                if client in self._clients:
                    self._clients.remove(client)
                will = None if is_polite else client.will
            if will is not None:
                self._publish(*will, retain=True)
            client.sock.close()

    def _take(self, client: _Client, first: int, body: bytes) -> bool:
        match first >> 4:
            case 1:
                self._connect(client, body)
            case 3:
                self._published(client, first, body)
            case 8:
                self._subscribe(client, body)
            case 10 if not self.rules.unsubscribes and self._is_watched(client):
                self._close(client)
            case 10:
                start = 2 + (1 + body[2] if client.version == 5 else 0)
                for topic in _texts(body[start:], options=0):
                    self.left.append(topic)
                    client.subscriptions.pop(topic, None)
                client.send(0xB0, body[:2] + (b"\0\0" if client.version == 5 else b""))
            case 12:
                client.send(0xD0, b"")
            case 14:
                return False
        return True

    def _connect(self, client: _Client, body: bytes) -> None:
        client.version, flags, rest = body[6], body[7], body[10:]
        if client.version == 5:
            rest = rest[1 + rest[0] :]
        client.id, rest = _text(rest)
        if flags & 4:
            if client.version == 5:
                rest = rest[1 + rest[0] :]
            topic, rest = _text(rest)
            length = int.from_bytes(rest[:2], "big")
            client.will = topic, rest[2 : 2 + length]
        if self.rules.on_connect() == CLOSE and self._is_watched(client):
            _shut(client.sock)
            return
        with self._guard:
            for other in [one for one in self._clients if one.id == client.id]:
                if other.version == 5:
                    other.send(0xE0, b"\x8e\0")
                _shut(other.sock)
            self._clients.append(client)
            self.connects += self._is_watched(client)
        properties = self.rules.connack_properties if self._is_watched(client) else b""
        if not self.rules.wildcards and self._is_watched(client):
            properties += b"\x28\0"
        client.send(0x20, b"\0\0" + (_varint(len(properties)) + properties if client.version == 5 else b""))

    def _subscribe(self, client: _Client, body: bytes) -> None:
        start = 2 + (1 + body[2] if client.version == 5 else 0)
        filters = _texts(body[start:], options=1)
        codes = [self._subscription_code(client, one) for one in filters]
        if self._is_watched(client):
            self.asked += filters
        if CLOSE in codes:
            self._close(client)
            return
        if MUTE in codes:
            return
        after_s = self.rules.granted_after_s if self._is_watched(client) else 0.0
        if client.version != 5:
            codes = [0x80 if code else 0 for code in codes]
        answer = body[:2] + (b"\0" if client.version == 5 else b"") + bytes(code or 1 for code in codes)
        granted = [one for one, code in zip(filters, codes, strict=True) if code == ACCEPT]

        def grant() -> None:
            client.send(0x90, answer)
            self._activate(client, granted)

        self._later(after_s, grant)

    def _activate(self, client: _Client, filters: list[str]) -> None:
        def activate() -> None:
            client.subscriptions.update(dict.fromkeys(filters, 1))
            for topic, payload in list(self.retained.items()):
                if any(_matches(one, topic) for one in filters):
                    self._deliver(client, topic, payload, retain=True)

        self._later(self.rules.active_after_s if self._is_watched(client) else 0.0, activate)

    def _subscription_code(self, client: _Client, filter_: str) -> int:
        if not self._is_watched(client):
            return ACCEPT
        if not self.rules.wildcards and ("+" in filter_ or "#" in filter_):
            return CLOSE
        return self.rules.on_subscribe(filter_)

    def _published(self, client: _Client, first: int, body: bytes) -> None:
        qos = first >> 1 & 3
        topic, rest = _text(body)
        packet = b""
        if qos:
            packet, rest = rest[:2], rest[2:]
        if client.version == 5:
            rest = rest[1 + rest[0] :]
        code = self.rules.on_publish(topic, rest) if self._is_watched(client) else ACCEPT
        if self._is_watched(client):
            with self._guard:
                self.seen.append(Seen(topic, rest, qos, code, time.monotonic()))
        if code == CLOSE or (code > 0 and client.version != 5):
            self._close(client)
            return
        if qos and code != MUTE:
            client.send(0x40, packet + (bytes([code, 0]) if code else b""))
        if code == ACCEPT:
            self._publish(topic, rest, retain=bool(first & 1))

    def _publish(self, topic: str, payload: bytes, *, retain: bool) -> None:
        with self._guard:
            if retain and payload:
                self.retained[topic] = payload
            elif retain:
                self.retained.pop(topic, None)
            clients = list(self._clients)
        for client in clients:
            if any(_matches(one, topic) for one in list(client.subscriptions)):
                self._deliver(client, topic, payload, retain=False)

    def _deliver(self, client: _Client, topic: str, payload: bytes, *, retain: bool) -> None:
        if self._is_watched(client):
            self.delivered.append(topic)
        client.packet += 1
        head = _bytes(topic.encode()) + client.packet.to_bytes(2, "big") + (b"\0" if client.version == 5 else b"")
        client.send(0x32 | retain, head + payload)

    def _close(self, client: _Client) -> None:
        if self.rules.disconnect_code is not None and client.version == 5:
            client.send(0xE0, bytes([self.rules.disconnect_code, 0]))
        _shut(client.sock)

    def _is_watched(self, client: _Client) -> bool:
        return self._watched in client.id

    def _later(self, after_s: float, do: Callable[[], object]) -> None:
        if after_s <= 0:
            do()
            return
        timer = threading.Timer(after_s, do)
        timer.daemon = True
        timer.start()


def _matches(filter_: str, topic: str) -> bool:
    levels = topic.split("/")
    wanted = filter_.split("/")
    for place, one in enumerate(wanted):
        if one == "#":
            return True
        if place >= len(levels) or one not in {"+", levels[place]}:
            return False
    return len(levels) == len(wanted)


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _read(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = sock.recv(count - len(data))
        if not more:
            raise OSError("closed")
        data += more
    return data


def _length(sock: socket.socket) -> int:
    value = shift = 0
    while True:
        byte = _read(sock, 1)[0]
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value


def _varint(value: int) -> bytes:
    out = b""
    while True:
        value, byte = value // 128, value % 128
        out += bytes([byte | (128 if value else 0)])
        if not value:
            return out


def _bytes(data: bytes) -> bytes:
    return len(data).to_bytes(2, "big") + data


def _text(data: bytes) -> tuple[str, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end].decode(), data[end:]


def _texts(data: bytes, *, options: int) -> list[str]:
    texts: list[str] = []
    while data:
        text, data = _text(data)
        data = data[options:]
        texts.append(text)
    return texts
