"""MQTT subscriber on a thread of its own, because a silent broker must not freeze the view."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Final

from agent.mqtt.blocking_client import Arrival, BlockingClient, BlockingClientError, connected
from agent.mqtt.endpoint.link_settings import LinkSettings
from agent.processes.backoff import Backoff

_SILENCE_S: Final = 2.5
"""Silence after which the broker is probed; `live` comes each second from a device that runs."""
_ANSWER_S: Final = 2.0
_TURN_S: Final = 0.2
_INBOX: Final = 10_000
_STOP_S: Final = 1.0


@dataclass(frozen=True)
class LinkNews:
    """A change of the link to the broker, with the error where it is down."""

    is_up: bool
    at_s: float
    detail: str = ""


class Feed:
    """Queue of messages under `topic_filter` and of link changes, in order.

    Owns its thread from `start` to `stop`. A full queue drops the newest, counted in `dropped`.
    """

    def __init__(self, settings: LinkSettings, topic_filter: str) -> None:
        self.dropped = 0
        self._settings: Final = settings
        self._filter: Final = topic_filter
        self._inbox: Final[Queue[Arrival | LinkNews]] = Queue(_INBOX)
        self._stopping: Final = threading.Event()
        self._thread: Final = threading.Thread(target=self._run, name="feed", daemon=True)

    @property
    def address(self) -> str:
        """The broker's URL, without a password."""
        scheme = "mqtt" if self._settings.tls is None else "mqtts"
        return f"{scheme}://{self._settings.host}:{self._settings.port}"

    def start(self) -> None:
        """Start the thread, which connects; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; abandon it where it waits for a broker's answer."""
        self._stopping.set()
        self._thread.join(_STOP_S)

    def drain(self, until_s: float) -> Iterator[Arrival | LinkNews]:
        """Yield messages and link changes until the monotonic time `until_s`."""
        while (news := self._next(until_s - time.monotonic())) is not None:
            yield news

    def _next(self, timeout_s: float) -> Arrival | LinkNews | None:
        try:
            return self._inbox.get(timeout=timeout_s) if timeout_s > 0 else None
        except Empty:
            return None

    def _run(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            detail = self._run_session(backoff)
            self._put(LinkNews(is_up=False, at_s=time.monotonic(), detail=detail))
            self._stopping.wait(backoff.next_s())

    def _run_session(self, backoff: Backoff) -> str:
        """Connect and enqueue messages until `stop` or a lost link; return the reason."""
        try:
            with connected(self._settings) as peer:
                peer.subscribe([self._filter])
                self._put(LinkNews(is_up=True, at_s=time.monotonic()))
                backoff.reset()
                self._listen(peer)
        except BlockingClientError as error:
            return str(error)
        return "stopped"

    def _listen(self, peer: BlockingClient) -> None:
        """Enqueue messages; raises BlockingClientError where a silent broker does not answer a probe."""
        heard_s = time.monotonic()
        while not self._stopping.is_set():
            arrival = peer.receive(_TURN_S)
            if arrival is not None:
                heard_s = arrival.at_s
                self._put(arrival)
            elif time.monotonic() - heard_s > _SILENCE_S:
                # because subscribing again needs an answer; it also repeats every retained topic
                peer.subscribe([self._filter], timeout_s=_ANSWER_S)
                heard_s = time.monotonic()

    def _put(self, news: Arrival | LinkNews) -> None:
        try:
            self._inbox.put_nowait(news)
        except Full:
            self.dropped += 1
