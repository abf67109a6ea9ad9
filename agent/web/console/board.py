"""The newest document of each topic, with short histories for people, and the readers that wait for changes."""

import asyncio
import time
from collections import deque
from typing import Any, Final

import msgspec

from agent.messages.payloads import Alert, Health, Switch
from agent.messages.texts.utc import utc_text

MOST_TOPICS: Final = 1024
"""Bound on topics; a device with more lines shows those that came first."""
CHANGEOVERS: Final = 20
CHANGES: Final = 100
ACTS: Final = 50
POINTS: Final = 180
"""Points of a curve, one for each `health`: 15 minutes."""
_PLAIN: Final = {"line": ("ready", "live", "phase", "model/state"), "stream": ("status",)}
"""Topics of plain text, by what they are of, below its id; the device's own is `status`."""


class Reader:
    """The documents that one page has not been sent yet: of each topic only the newest."""

    def __init__(self, board: "Board") -> None:
        self._board: Final = board
        self._pending: dict[str, None] = {}
        self._wake: Final = asyncio.Event()
        self.folded = 0
        """Documents that a newer one of their topic replaced before they were sent."""

    def put(self, topic: str) -> None:
        """Note that a topic has a new document."""
        if topic in self._pending:
            self.folded += 1
        self._pending[topic] = None
        self._wake.set()

    async def changes(self, timeout_s: float) -> list[bytes]:
        """Return the waiting documents as JSON, in the order of their first change; none after `timeout_s`."""
        if not self._pending:
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), timeout_s)
            except asyncio.TimeoutError:
                return []
        topics, self._pending = self._pending, {}
        return [self._board.document(topic) for topic in topics]


class Board:
    """All documents, for the event loop's thread. Names that begin with `console/` are the console's own."""

    def __init__(self) -> None:
        self.readers: Final[set[Reader]] = set()
        self._documents: Final[dict[str, tuple[bytes, float]]] = {}  # JSON and time.monotonic, by topic
        self._changeovers: Final[dict[str, deque[msgspec.Raw]]] = {}
        self._changes: Final[deque[dict[str, Any]]] = deque(maxlen=CHANGES)
        self._acts: Final[deque[dict[str, Any]]] = deque(maxlen=ACTS)
        self._curves: Final[dict[str, deque[tuple[float, float, float, float]]]] = {}

    def take(self, topic: str, payload: bytes) -> None:
        """Take a message of the device; `topic` is relative to it. An empty payload forgets the topic."""
        kind, _, rest = topic.partition("/")
        id_, _, name = rest.partition("/")  # an id may be any word, also that of a topic
        if topic == "ack" or (kind == "stream" and name in {"detections", "replay", "summary"}):
            return
        if kind == "line" and name == "switch":
            self._changed_over(id_, payload)
        elif topic == "alert":
            self._alert_changed(payload)
        else:
            if topic == "health":
                self._extend_curves(payload)
            is_plain = topic == "status" or name in _PLAIN.get(kind, ())
            self.put(topic, msgspec.json.encode(payload.decode("utf-8", "replace")) if is_plain else payload)

    def put(self, topic: str, document: bytes) -> None:
        """Replace the document of a topic by another one, as JSON; b"" forgets the topic."""
        if not document:
            self._documents.pop(topic, None)
        elif topic in self._documents or len(self._documents) < MOST_TOPICS:
            self._documents[topic] = (document, time.monotonic())
        else:
            return
        for reader in self.readers:
            reader.put(topic)

    def acted(self, id_: str, act: dict[str, Any]) -> None:
        """Note an act of a user, whose answer comes later."""
        self._acts.append({"at": utc_text(time.time()), "id": id_, **act, "result": None})
        self.put("console/acts", msgspec.json.encode(list(self._acts)))

    def answered(self, id_: str, ack: bytes) -> None:
        """Add an ack of control, as JSON, to the act that it belongs to."""
        answer = msgspec.json.decode(ack)
        for act in self._acts:
            if act["id"] == id_:
                act.update({key: answer.get(key) for key in ("result", "reason", "detail")})
                self.put("console/acts", msgspec.json.encode(list(self._acts)))

    def document(self, topic: str) -> bytes:
        """Return a topic's document as JSON: {"topic", "doc", "age_s"}; `doc` is null where there is none any more."""
        found = self._documents.get(topic)
        content, age_s = (found[0], time.monotonic() - found[1]) if found is not None else (b"null", 0.0)
        return b'{"topic":%b,"age_s":%.3f,"doc":%b}' % (msgspec.json.encode(topic), age_s, content)

    def snapshot(self) -> bytes:
        """Return all documents as one JSON list."""
        return b"[%b]" % b",".join(map(self.document, list(self._documents)))

    def curves(self) -> bytes:
        """Return each stream's points as JSON: {stream: [[Unix time, frames/s, p50 ms, p99 ms], ...]}."""
        return msgspec.json.encode({stream: list(points) for stream, points in self._curves.items()})

    def open_reader(self) -> Reader:
        """Return a reader of all later changes; close it by `close_reader`."""
        reader = Reader(self)
        self.readers.add(reader)
        return reader

    def close_reader(self, reader: Reader) -> None:
        """Forget a reader."""
        self.readers.discard(reader)

    def _changed_over(self, line: str, payload: bytes) -> None:
        msgspec.json.decode(payload, type=Switch)
        kept = self._changeovers.setdefault(line, deque(maxlen=CHANGEOVERS))
        kept.append(msgspec.Raw(payload))
        self.put(f"console/changeovers/{line}", msgspec.json.encode(list(kept)))

    def _alert_changed(self, payload: bytes) -> None:
        change = msgspec.json.decode(payload, type=Alert)
        self._changes.append({"at": utc_text(time.time()), **msgspec.to_builtins(change)})
        self.put("console/changes", msgspec.json.encode(list(self._changes)))

    def _extend_curves(self, payload: bytes) -> None:
        health, at_s = msgspec.json.decode(payload, type=Health), round(time.time(), 1)
        for stream, one in health.streams.items():
            points = self._curves.setdefault(stream, deque(maxlen=POINTS))
            latency = one.latency_ms
            while points and points[-1][0] > at_s:  # a clock that was set back begins before them again
                points.pop()
            points.append((at_s, one.fps, latency.get("p50", 0.0), latency.get("p99", 0.0)))
