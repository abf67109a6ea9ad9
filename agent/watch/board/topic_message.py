"""One MQTT message for the board, and decoding of payloads that are one plain word."""

from dataclasses import dataclass
from typing import Final

_TEXT_BYTES: Final = 512


@dataclass(frozen=True)
class TopicMessage:
    """One message of a line, stream or device."""

    name: str
    """The topic without device, line or stream."""
    payload: bytes
    retained: bool
    at_s: float
    """Monotonic time of arrival."""


class UnreadableError(ValueError):
    """A payload does not fit its topic."""


def plain(payload: bytes) -> str | None:
    """Decode a plain word; None for an empty payload, which clears a retained topic.

    Raises UnreadableError where it is too long.
    """
    if len(payload) > _TEXT_BYTES:
        raise UnreadableError("too long for a word")
    return payload.decode() or None


def one_of(words: tuple[str, ...], payload: bytes) -> str | None:
    """Decode a plain word as `plain` does; raises UnreadableError where it is not one of `words`, too."""
    word = plain(payload)
    if word is not None and word not in words:
        raise UnreadableError(f"{word!r} is none of {', '.join(words)}")
    return word
