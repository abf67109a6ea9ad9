"""Blocking MQTT client for the demo's PLC, `watch`, `switch` and tests; never for control."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import Empty, Full, Queue
from typing import Final

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from agent.messages.errors import TransientError
from agent.mqtt.endpoint.link_settings import LinkSettings, ProtocolVersion
from agent.mqtt.link.connector import Notes, build_client, connect

_INBOX_LIMIT: Final = 100_000


class BlockingClientError(TransientError):
    """The broker could not be reached, refused, or did not answer in time."""


@dataclass(frozen=True)
class Arrival:
    """A received message with its arrival time (time.monotonic)."""

    topic: str
    payload: bytes
    retained: bool
    at_s: float


@contextmanager
def connected(settings: LinkSettings) -> Iterator["BlockingClient"]:
    """Connect, yield the client, and disconnect after the block. Raises BlockingClientError where the connect fails."""
    peer = BlockingClient(settings)
    peer.connect()
    try:
        yield peer
    finally:
        peer.close()


class BlockingClient:
    """One connection that reconnects by itself and restores its subscriptions; methods are for one thread.

    Unread messages are kept up to a bound; further ones are dropped and counted in `dropped`.
    """

    def __init__(self, settings: LinkSettings) -> None:
        self.dropped = 0
        self.protocol: ProtocolVersion = "5" if settings.protocol == "5" else "3.1.1"
        self._settings: Final = settings
        self._inbox: Final[Queue[Arrival]] = Queue(_INBOX_LIMIT)
        self._subscriptions: Final[dict[str, int]] = {}
        self._client: paho.Client | None = None
        self._answered: Final = threading.Event()
        self._refusal: str | None = None
        self._granted: Final[Queue[tuple[int, bool]]] = Queue(1000)
        self._refused: Final[dict[int, str]] = {}

    def connect(self, timeout_s: float = 5.0) -> None:
        """Connect; `auto` tries MQTT 3.1.1, which every broker answers, then 5.

        Raises BlockingClientError where the broker cannot be reached, refuses, or does not answer in `timeout_s`.
        """
        if self._try(timeout_s):
            return
        if self._settings.protocol == "auto" and self.protocol == "3.1.1":
            self.protocol = "5"
            if self._try(timeout_s):
                return
        raise BlockingClientError(
            f"no link to {self._settings.host}:{self._settings.port}: {self._refusal or 'no answer'}"
        )

    def close(self) -> None:
        """Disconnect and end paho's thread."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def subscribe(self, topics: Sequence[str], qos: int = 1, timeout_s: float = 5.0) -> None:
        """Subscribe, also after each reconnect; wait for the grant.

        Raises BlockingClientError where it is refused, or not answered in `timeout_s`.
        """
        self._subscriptions.update(dict.fromkeys(topics, qos))
        _rc, mid = self._connected().subscribe([(topic, qos) for topic in topics])
        deadline_s = time.monotonic() + timeout_s
        while (left_s := deadline_s - time.monotonic()) > 0:
            try:
                answered, granted = self._granted.get(timeout=left_s)
            except Empty:
                break
            if answered == mid:
                if not granted:
                    raise BlockingClientError(f"the broker refused a subscription of {', '.join(topics)}")
                return
        raise BlockingClientError("the broker did not answer a subscription")

    def publish(
        self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False, timeout_s: float = 5.0
    ) -> None:
        """Publish, and at QoS 1 wait for the acknowledgement.

        Raises BlockingClientError where none comes in `timeout_s`, or (MQTT 5) where the broker refuses the message.
        """
        info = self._connected().publish(topic, payload, qos, retain)
        try:
            info.wait_for_publish(timeout_s)
            arrived = info.is_published()
            refusal = self._refused.pop(info.mid, None)
        except (RuntimeError, ValueError) as error:
            raise BlockingClientError(f"{topic} was not published: {error}") from error
        if not arrived:
            raise BlockingClientError(f"{topic} was not acknowledged within {timeout_s:g} s")
        if refusal is not None:
            raise BlockingClientError(f"{topic} was refused: {refusal}")

    def receive(self, timeout_s: float) -> Arrival | None:
        """Return the next message; None where `timeout_s` passes without one."""
        try:
            return self._inbox.get(timeout=max(timeout_s, 0)) if timeout_s > 0 else self._inbox.get_nowait()
        except Empty:
            return None

    def arrivals(self, timeout_s: float) -> Iterator[Arrival]:
        """Yield messages until `timeout_s` have passed in all."""
        deadline_s = time.monotonic() + timeout_s
        while (arrival := self.receive(deadline_s - time.monotonic())) is not None:
            yield arrival

    def _connected(self) -> paho.Client:
        if self._client is None:
            raise BlockingClientError("not connected")
        return self._client

    def _try(self, timeout_s: float) -> bool:
        self._answered.clear()
        self._refusal = None
        client = build_client(replace(self._settings, protocol=self.protocol), self.protocol, Notes())
        client._reconnect_on_failure = True  # noqa: SLF001 - build_client turns it off for the link, which dials anew
        client.reconnect_delay_set(1, 2)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        try:
            connect(client, self._settings, self.protocol)
        except (OSError, ValueError) as error:
            raise BlockingClientError(f"no link to {self._settings.host}:{self._settings.port}: {error}") from error
        client.loop_start()
        if self._answered.wait(timeout_s) and self._refusal is None:
            self._client = client
            return True
        client.disconnect()
        client.loop_stop()
        return False

    # on paho's thread

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        self._refusal = reason.getName() if reason.is_failure else None
        if self._refusal is None and self._subscriptions:
            client.subscribe(list(self._subscriptions.items()))
        self._answered.set()

    def _on_subscribe(
        self, _client: paho.Client, _data: object, mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        if not self._granted.full():
            self._granted.put((mid, not any(reason.is_failure for reason in reasons)))

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure and len(self._refused) < _INBOX_LIMIT:
            self._refused[mid] = reason.getName()

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            self._inbox.put_nowait(
                Arrival(message.topic, bytes(message.payload), message.retain, at_s=time.monotonic())
            )
        except (Full, UnicodeDecodeError):
            self.dropped += 1
