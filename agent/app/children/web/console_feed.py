"""Documents for the console beside the published ones: configuration, the link's state, watched detections."""

from collections.abc import Mapping
from typing import Final

import msgspec

from agent.app.children.web.console_documents import of_configuration
from agent.app.children.web.document_feed import DocumentFeed
from agent.app.context import Context
from agent.messages.topics import Topics
from agent.messages.web.control import PictureEnd
from agent.mqtt.publishing.tapped_publisher import TappedPublisher


class ConsoleFeed:
    """Feeds the console, where it is served; for the loop's thread."""

    def __init__(
        self, topics: Topics, publisher: TappedPublisher, feed: DocumentFeed, pictures: Mapping[str, int]
    ) -> None:
        """Store the parts; `pictures` are the web process's ends of picture links by stream, none without a console."""
        self._topics: Final = topics
        self._publisher: Final = publisher
        self._feed: Final = feed
        self.pictures: Final = tuple(PictureEnd(stream, end) for stream, end in pictures.items())
        self._is_connected: bool | None = None
        self._watched: frozenset[str] = frozenset()

    def configured(self, context: Context) -> None:
        """Show configuration and catalog, at the start and whenever one was read again."""
        for name, document in of_configuration(context.settings, context.catalog.versions):
            self._show(name, document)

    def tick(self, *, is_connected: bool) -> None:
        """Show whether the broker is connected, where that changed."""
        if is_connected != self._is_connected:
            self._is_connected = is_connected
            self._show("console/link", msgspec.json.encode({"connected": is_connected}))

    def watch(self, streams: tuple[str, ...]) -> None:
        """Give the detections of these streams from now on, and of no others."""
        self._watched = frozenset(self._topics.of_stream(stream, "detections") for stream in streams)
        self._publisher.tap_detections = bool(streams)

    def tapped(self, topic: str, payload: bytes, is_state: bool) -> None:  # noqa: FBT001 - a tap's call
        """Take a document as it is published."""
        if topic in self._watched or not topic.endswith("/detections"):
            self._feed.put(topic, payload, is_state)

    def _show(self, name: str, document: bytes) -> None:
        self._feed.put(f"{self._topics.base}/{name}", document, True)
