"""A message to publish, and the topics that every broker accepts."""

from typing import Final

import msgspec

_TOPIC_LIMIT: Final = 4096
_LEVELS_LIMIT: Final = 100
"""Mosquitto accepts 200 levels, EMQX 128; a client that publishes to more is disconnected."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message to publish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    correlation: bytes | None = None
    """Correlation data, sent on MQTT 5 only."""

    @property
    def size_bytes(self) -> int:
        """Size of payload and topic, without headers."""
        return len(self.payload) + len(self.topic)


def may_publish_to(topic: str) -> bool:
    """Return True for a topic that every broker accepts; some disconnect on others, again at each retry."""
    if not topic or len(topic) > _TOPIC_LIMIT or topic.count("/") > _LEVELS_LIMIT:
        return False
    return topic.isprintable() and "+" not in topic and "#" not in topic
