"""Publisher that shows a copy of what it publishes to a tap, such as the console's."""

from collections.abc import Callable
from typing import Final

from agent.messages.topics import Topics
from agent.mqtt.outbox.outbox import Outbox
from agent.mqtt.publishing.publisher import Keep, Publisher, Sending

Tap = Callable[[str, bytes, bool], None]
"""Takes topic, payload, and whether it is a retained state; called on the loop's thread, before it is sent."""


class TappedPublisher(Publisher):
    """Publisher whose `tap` sees states, events, summaries and live values; detections only where `tap_detections`."""

    def __init__(self, link: Sending, topics: Topics, outbox: Outbox, detections: Keep = "offline") -> None:
        super().__init__(link, topics, outbox, detections)
        self._names: Final = topics
        self.tap: Tap | None = None
        self.tap_detections = False
        """Costs control a copy of each frame's answer, so only while somebody looks."""

    def send_state(self, topic: str, payload: bytes) -> None:
        """Implement `Publisher.send_state`."""
        if self.tap is not None:
            self.tap(topic, payload, True)
        super().send_state(topic, payload)

    def send_event(self, topic: str, payload: bytes, correlation: bytes | None = None) -> None:
        """Implement `Publisher.send_event`."""
        if self.tap is not None:
            self.tap(topic, payload, False)
        super().send_event(topic, payload, correlation)

    def send_live(self, topic: str, payload: bytes) -> None:
        """Implement `Publisher.send_live`."""
        if self.tap is not None:
            self.tap(topic, payload, False)
        super().send_live(topic, payload)

    def send_summary(self, stream: str, payload: bytes) -> None:
        """Implement `Publisher.send_summary`."""
        if self.tap is not None:
            self.tap(self._names.of_stream(stream, "summary"), payload, False)
        super().send_summary(stream, payload)

    def send_detection(self, stream: str, payload: bytes) -> None:
        """Implement `Publisher.send_detection`."""
        if self.tap is not None and self.tap_detections:
            self.tap(self._names.of_stream(stream, "detections"), payload, False)
        super().send_detection(stream, payload)
