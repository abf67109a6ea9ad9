"""A station: the link, its publisher and a loop, driven by the test itself, so that nothing happens unseen."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.control.inputs import routes
from agent.messages.events import LinkDown, LinkUp, Listening, Noticed
from agent.messages.topics import Topics
from agent.mqtt.access.topic_filter import TopicFilter
from agent.mqtt.blocking_client import BlockingClient, connected
from agent.mqtt.endpoint.link_settings import LinkSettings, Will
from agent.mqtt.link.link import Link
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.outbox.outbox_item import Kind
from agent.mqtt.outbox.sqlite_store import Bounds
from agent.mqtt.publishing.publisher import Keep, Publisher
from agent.processes.loop import Loop
from support.brokers import settings_of

DEADLINE_S = 60.0
TICK_S = 0.1


class Station:
    """Control's part of the link, without control."""

    def __init__(
        self,
        port: int,
        *,
        path: Path | None = None,
        detections: Keep = "offline",
        **changes: Any,  # noqa: ANN401 - fields of LinkSettings
    ) -> None:
        self.topics = Topics("changeover/v1", "box-7")
        settings = LinkSettings(
            host="127.0.0.1",
            port=port,
            client_id="box-7",
            keepalive_s=10,
            will=Will(self.topics.status, b"offline"),
            ping_topic=self.topics.ping,
        )
        self.loop = Loop()
        self.link = Link(replace(settings, **changes), self.loop, self.loop.put)
        self.outbox = Outbox(
            Bounds(1 << 20, 3600), path, at_once=frozenset(Kind) if detections == "always" else frozenset()
        )
        self.publisher = Publisher(self.link, self.topics, self.outbox, detections)
        self.publisher.start(self.loop)
        self.heard: list[object] = []
        self.is_listening = False
        self.wishes = [TopicFilter(filter_) for filter_ in routes.filters(self.topics.base)]
        self.noticed: list[Noticed] = []
        self._ticked_s = 0.0

    def ready(self, line: str, value: str) -> None:
        self.publisher.send_state(self.topics.of_line(line, "ready"), value.encode())

    def turn(self) -> None:
        """Do one turn of the loop, and a tick where it is due."""
        self.loop.run_once(0.02, self._handle)
        if (now := time.monotonic()) - self._ticked_s >= TICK_S:
            self._ticked_s = now
            self.link.tick(now)
            self.publisher.tick()

    def depth(self, kind: Kind = Kind.DETECTION) -> int:
        return self.outbox.depth(kind)

    def until(self, is_done: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
        limit_s = time.monotonic() + deadline_s
        while not is_done():
            assert time.monotonic() < limit_s, f"not within {deadline_s} s; heard: {self.heard[-5:]}"
            self.turn()

    def until_heard(self, kind: type[Any], deadline_s: float = DEADLINE_S) -> Any:  # noqa: ANN401 - an event of that kind
        """Wait for the first event of a kind that was not waited for yet."""
        self.until(lambda: any(isinstance(event, kind) for event in self.heard), deadline_s)
        place = next(index for index, event in enumerate(self.heard) if isinstance(event, kind))
        event = self.heard[place]
        del self.heard[: place + 1]
        return event

    def until_acknowledged(self) -> None:
        self.until(lambda: self.is_listening and self.link.in_flight == 0 and not self.depth(Kind.EVENT))

    def close(self) -> None:
        self.publisher.stop([], 2)
        self.loop.close()

    def _handle(self, event: object) -> None:
        if self.link.handle(event):
            return
        if isinstance(event, LinkUp):
            self.link.listen(self.wishes)
        if isinstance(event, Listening) and event.connection == self.link.connection:
            self.is_listening = True
            self.publisher.announce()
        if isinstance(event, LinkDown):
            self.is_listening = False
        if isinstance(event, Noticed):
            self.noticed.append(event)
        self.heard.append(event)


class Observer:
    """Sees what is on the wire, in order."""

    def __init__(self, peer: BlockingClient) -> None:
        self.peer = peer
        self.seen: list[tuple[str, str]] = []

    def look(self) -> None:
        while (arrival := self.peer.receive(0)) is not None:
            self.seen.append((arrival.topic.removeprefix("changeover/v1/box-7/"), arrival.payload.decode()))

    def of(self, topic: str) -> list[str]:
        self.look()
        return [payload for seen, payload in self.seen if seen == topic]


@contextmanager
def observing(port: int) -> Iterator[Observer]:
    with connected(settings_of(f"mqtt://127.0.0.1:{port}")) as peer:
        peer.subscribe(["changeover/v1/box-7/#", "marker"])
        yield Observer(peer)
