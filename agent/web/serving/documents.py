"""The device's published documents, as the web process has received them."""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.messages.web.control import Document

_WAITING: Final = 256
"""Documents that wait for one subscriber; beyond that the oldest is dropped and counted."""


class Subscription:
    """Documents since the subscription began, for one reader."""

    def __init__(self) -> None:
        self.missed = 0
        """Documents that were dropped because the reader was too slow; it should read `DocumentStore.states` again."""
        self._waiting: Final[deque[Document]] = deque()
        self._has_news: Final = asyncio.Event()

    def put(self, document: Document) -> None:
        """Add a document; drops the oldest one where the reader is too slow."""
        self._waiting.append(document)
        if len(self._waiting) > _WAITING:
            self._waiting.popleft()
            self.missed += 1
        self._has_news.set()

    async def next(self) -> Document:
        """Wait for the next document, and return it."""
        while not self._waiting:
            self._has_news.clear()
            await self._has_news.wait()
        return self._waiting.popleft()


class DocumentStore:
    """The newest value of every retained topic, and what is published now; topics are relative to the device."""

    def __init__(self) -> None:
        self.states: Final[dict[str, bytes]] = {}
        """Payloads by topic, such as `line/line-1/state`."""
        self._subscriptions: Final[list[Subscription]] = []

    def take(self, documents: tuple[Document, ...]) -> None:
        """Take documents in the order in which they were published."""
        for document in documents:
            if document.is_state and document.payload:
                self.states[document.topic] = document.payload
            elif document.is_state:
                self.states.pop(document.topic, None)
            for subscription in self._subscriptions:
                subscription.put(document)

    @contextmanager
    def subscribed(self) -> Iterator[Subscription]:
        """Run the block with a subscription to all documents from now on."""
        subscription = Subscription()
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
