"""Feeds published documents to the web process, as fast as that takes them."""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from agent.messages.web.control import Document, Documents

_EVENTS: Final = 256
"""Events and readings that wait; beyond that the oldest is dropped and counted."""
_BATCH_BYTES: Final = 48 * 1024
_LONGEST_BYTES: Final = 60 * 1024
"""A longer document does not fit a message of the channel; it is dropped and counted."""


class DocumentFeed:
    """Queue of documents for the web process; of a state only the newest value waits. For the loop's thread.

    One batch at a time is on its way, so a slow web process never fills the channel, and costs only its own view.
    """

    def __init__(self, base: str, send: Callable[[Documents], object]) -> None:
        self.dropped = 0
        """Events, readings and oversized documents that were not sent since the start."""
        self._start: Final = f"{base}/"
        self._send: Final = send
        self._states: Final[dict[str, bytes]] = {}
        self._due: Final[OrderedDict[str, None]] = OrderedDict()
        """States that the web process does not have yet."""
        self._events: Final[deque[Document]] = deque()
        self._is_open = False
        self._is_sending = False

    def put(self, topic: str, payload: bytes, is_state: bool) -> None:  # noqa: FBT001 - a tap's call
        """Take a document as it is published; foreign topics, such as a client's response topic, are not ours."""
        if not topic.startswith(self._start):
            return
        name = topic[len(self._start) :]
        if len(payload) > _LONGEST_BYTES:
            self.dropped += 1
            return
        if is_state:
            if self._states.get(name, b"") == payload:
                return
            self._states[name] = payload
            self._due[name] = None
        elif self._is_open:
            self._events.append(Document(name, payload, is_state=False))
            if len(self._events) > _EVENTS:
                self._events.popleft()
                self.dropped += 1
        self._pump()

    def open(self) -> None:
        """Send every state to a web process that has just started, then what follows."""
        self._is_open, self._is_sending = True, False
        self._due.update(dict.fromkeys(self._states))
        self._pump()

    def close(self) -> None:
        """Send nothing more, because the web process is lost; states are kept for the next one."""
        self._is_open = self._is_sending = False
        self._events.clear()

    def taken(self) -> None:
        """Send the next batch, because the web process has handled the last one."""
        self._is_sending = False
        self._pump()

    def _pump(self) -> None:
        if not self._is_open or self._is_sending or not (self._due or self._events):
            return
        batch: list[Document] = []
        size_bytes = 0
        while self._due and size_bytes < _BATCH_BYTES:
            name, _ = self._due.popitem(last=False)
            size_bytes = self._add(batch, Document(name, self._states[name], is_state=True), size_bytes)
            if not self._states[name]:
                del self._states[name]  # an empty value clears its topic
        while self._events and size_bytes + len(self._events[0].payload) < _LONGEST_BYTES:
            size_bytes = self._add(batch, self._events.popleft(), size_bytes)
        self._is_sending = True
        self._send(Documents(tuple(batch), self.dropped))

    @staticmethod
    def _add(batch: list[Document], document: Document, size_bytes: int) -> int:
        batch.append(document)
        return size_bytes + len(document.payload) + len(document.topic)
