"""A message on its way to the broker."""

from typing import Final

import msgspec

_TOPIC_LIMIT: Final = 4096
_LEVELS_LIMIT: Final = 100
"""Mosquitto takes 200 levels, EMQX 128; a client that publishes to more is thrown out."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message to publish. `correlation` goes along on MQTT 5 alone."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    correlation: bytes | None = None

    @property
    def size_bytes(self) -> int:
        """What it takes of the way to the broker, without headers."""
        return len(self.payload) + len(self.topic)


def may_publish_to(topic: str) -> bool:
    """Whether every broker takes a message on `topic`; one that closes on it would be tried again for ever."""
    if not topic or len(topic) > _TOPIC_LIMIT or topic.count("/") > _LEVELS_LIMIT:
        return False
    return topic.isprintable() and "+" not in topic and "#" not in topic
