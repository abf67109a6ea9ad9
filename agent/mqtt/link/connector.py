"""Connect attempts, on a thread of their own because they block."""

import codecs
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import paho.mqtt.client as paho
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.messages.children import Message
from agent.messages.errors import MistakeError
from agent.mqtt.access.overflows import Overflow
from agent.mqtt.endpoint.connect_errors import Failure, explain
from agent.mqtt.endpoint.link_settings import LinkSettings, ProtocolVersion
from agent.mqtt.endpoint.tls import tls_context

SessionUse = Literal["fresh", "resume", "forget"]
"""Use of an old session on the broker: `fresh` disconnects, `resume` uses it, `forget` drops it first."""
CONNECT_TIMEOUT_S: Final = 5.0
MAXIMUM_PACKET_BYTES: Final = 128 * 1024
"""Largest packet that an MQTT 5 broker may send to the agent."""
LARGEST_READ_BYTES: Final = 256 * 1024
"""Largest packet that is read; a larger one, which only MQTT 3.1.1 allows, ends the connection."""
_MID_BYTES: Final = 2
_LENGTH_BYTES: Final = 2
_TYPE: Final = 0xF0
_PUBLISH: Final = 0x30
_RETAIN: Final = 0x01
_FAILURE: Final = 0x80
_VERSIONS: Final = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}
_log: Final = logging.getLogger(__name__)


class Notes(logging.Logger):
    """Logger that keeps paho's last complaint as the reason of a lost connection."""

    def __init__(self) -> None:
        super().__init__("paho", logging.WARNING)
        self.last: str | None = None
        self.addHandler(_NoteHandler(self))


class _NoteHandler(logging.Handler):
    def __init__(self, notes: Notes) -> None:
        super().__init__(logging.WARNING)
        self._notes: Final = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.last = record.getMessage()
        if self._notes.last.startswith("Caught exception"):
            _log.error("event=mqtt_callback_failed detail=%r", self._notes.last)


class Client(paho.Client):
    """Paho's client with a cheaper PUBACK, a limit for received packets, and no socket left open.

    For each good PUBACK, paho builds objects of properties and reason codes, a third of a message's cost; here
    `arrived(mid)` is called instead of `on_publish`. A packet that is too large ends the connection and is kept as
    `overflow`. Paho would leave the socket of a failed TLS handshake open.
    """

    overflow: Overflow | None = None
    """The message that ended the connection because it was too large to read; None without one."""
    arrived: Callable[[int], None] | None = None
    arrived_s = 0.0
    """Arrival time of the last packet of any kind (time.monotonic)."""

    def _sock_recv(self, bufsize: int) -> bytes:
        # checked here, because paho requests a packet's whole rest: of one that is too large, only the topic is read
        size_bytes = self._in_packet["remaining_length"]
        if not self._in_packet["have_remaining"] or size_bytes <= LARGEST_READ_BYTES:
            return super()._sock_recv(bufsize)
        command, packet = self._in_packet["command"], self._in_packet["packet"]
        is_publish = command & _TYPE == _PUBLISH
        if is_publish and (missing_bytes := _topic_end(packet) - len(packet)) > 0:
            return super()._sock_recv(missing_bytes)
        topic = packet[_LENGTH_BYTES:].decode("utf-8", "replace") if is_publish else ""
        self.overflow = Overflow(topic, size_bytes, is_retained=bool(command & _RETAIN))
        where = f" on {topic}" if topic else ""
        raise OSError(f"a message of {size_bytes} bytes{where}, where {LARGEST_READ_BYTES} are taken")

    def _packet_handle(self) -> MQTTErrorCode:
        self.arrived_s = time.monotonic()
        return super()._packet_handle()

    def _handle_pubackcomp(self, cmd: Literal["PUBACK", "PUBCOMP"]) -> MQTTErrorCode:
        packet = self._in_packet["packet"]
        is_plain = cmd == "PUBACK" and (
            len(packet) == _MID_BYTES or (len(packet) > _MID_BYTES and packet[2] < _FAILURE)
        )
        if not is_plain or self.arrived is None:
            return super()._handle_pubackcomp(cmd)
        mid = int.from_bytes(packet[:_MID_BYTES], "big")
        if self._out_messages.pop(mid, None) is not None:
            self._inflight_messages -= 1
            self.arrived(mid)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        if self._ssl_context is None:
            raise ValueError("no TLS context was set")
        sock = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self._host, do_handshake_on_connect=False)
        try:
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.do_handshake()
        except (OSError, ValueError):
            sock.close()
            raise
        return sock


def _topic_end(packet: bytearray) -> int:
    """Return the offset at which a PUBLISH's topic ends, or its length field while that is incomplete."""
    if len(packet) < _LENGTH_BYTES:
        return _LENGTH_BYTES
    return _LENGTH_BYTES + int.from_bytes(packet[:_LENGTH_BYTES], "big")


class Dialled(Message, frozen=True):
    """Result of a connect attempt."""

    attempt: int
    protocol: ProtocolVersion
    client: Any
    """The client, with its CONNECT sent; None where the attempt failed."""
    notes: Any
    detail: str = ""
    """The reason of a failure."""
    refused: bool = False
    """True where a retry cannot help before somebody changes something."""
    resumes: bool = True
    """True where an old session on the broker is accepted."""


class ConnectAttempt:
    """One connect attempt (DNS, TCP, TLS, CONNECT) on its own thread, from which `done` is called.

    Its owner ends it with `abandon`. The thread lives no longer than its timeouts; those of a resolver are the
    system's.
    """

    def __init__(
        self,
        number: int,
        settings: LinkSettings,
        protocol: ProtocolVersion,
        done: Callable[[Message], None],
        *,
        session: SessionUse = "fresh",
    ) -> None:
        """Store the parameters; `session` says how to treat an old session on the broker."""
        self.number: Final = number
        self._session: Final = session
        self.protocol: Final = protocol
        self._settings: Final = settings
        self._done: Final = done
        self._guard: Final = threading.Lock()
        self._abandoned = False
        self._thread: Final = threading.Thread(target=self._run, name="dial", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the thread, which has called `done` already, because it must not outlive its loop."""
        self._thread.join()

    def abandon(self, timeout_s: float) -> None:
        """Suppress `done` and close a late connection; wait up to `timeout_s` for the thread."""
        with self._guard:
            self._abandoned = True
        self._thread.join(timeout_s)

    def _run(self) -> None:
        notes = Notes()
        client = None
        failure = Failure("", is_refusal=False)
        try:
            if self._session == "forget":
                forget_session(self._settings)
            client = build_client(self._settings, self.protocol, notes)
            connect(client, self._settings, self.protocol)
        except (OSError, ValueError, MistakeError) as error:
            client, failure = None, explain(error, self._settings.host)
        dialled = Dialled(
            self.number,
            self.protocol,
            client,
            notes,
            failure.detail,
            refused=failure.is_refusal,
            resumes=self._session != "fresh" or self.protocol == "5",
        )
        with self._guard:
            if not self._abandoned:
                self._done(dialled)
            elif client is not None:
                close(client)


def build_client(settings: LinkSettings, protocol: ProtocolVersion, notes: Notes) -> Client:
    """Return a client that is not connected yet.

    Raises OSError for a TLS or password file that cannot be used (ssl.SSLError, too), LockedKeyError for a private key
    with a passphrase.
    """
    client = Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        protocol=_VERSIONS[protocol],
        clean_session=None if protocol == "5" else settings.session_s == 0,
        reconnect_on_failure=False,
    )
    client.enable_logger(notes)
    # because an exception in a callback would leave paho's parser inside a packet
    client.suppress_exceptions = True
    client.max_inflight_messages_set(0)
    client.connect_timeout = CONNECT_TIMEOUT_S
    client.on_socket_open = _set_no_delay
    if settings.username:
        # because paho accepts bytes, although its annotation says text only
        client.username_pw_set(settings.username, _password(settings))  # type: ignore[arg-type]
    if settings.will is not None:
        client.will_set(settings.will.topic, settings.will.payload, qos=1, retain=True)
    if settings.tls is not None:
        client.tls_set_context(tls_context(settings.tls))
    return client


def connect(client: paho.Client, settings: LinkSettings, protocol: ProtocolVersion) -> None:
    """Resolve, connect and send CONNECT; blocks. Raises OSError where that fails, ValueError for an invalid host."""
    properties = None
    if protocol == "5":
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.MaximumPacketSize = MAXIMUM_PACKET_BYTES
        properties.SessionExpiryInterval = settings.session_s
    starts_clean = settings.session_s == 0 if protocol == "5" else MQTT_CLEAN_START_FIRST_ONLY
    client.connect(settings.host, settings.port, settings.keepalive_s, clean_start=starts_clean, properties=properties)


def forget_session(settings: LinkSettings) -> None:
    """Drop the session on an MQTT 3.1.1 broker, where it never expires. Blocks; raises OSError if it cannot connect."""
    client = build_client(replace(settings, session_s=0, will=None), "3.1.1", Notes())
    client.connect(settings.host, settings.port, settings.keepalive_s)
    deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
    while not client.is_connected() and time.monotonic() < deadline_s:
        if client.loop(0.1):
            break
    client.disconnect()
    close(client)


def close(client: paho.Client) -> None:
    """Close the socket without a DISCONNECT, so that the broker sends the will."""
    client._reset_sockets()  # noqa: SLF001 - paho offers no way to drop a connection without a word


def _password(settings: LinkSettings) -> bytes | None:
    if settings.password_file is None:
        return settings.password
    return Path(settings.password_file).read_bytes().removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n")


def _set_no_delay(_client: paho.Client, _userdata: object, sock: Any) -> None:  # noqa: ANN401 - paho's SocketLike is no type of its API
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
