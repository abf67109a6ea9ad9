"""A message as the folds take it, and reading the payloads that are plain words."""

from dataclasses import dataclass
from typing import Final

_TEXT_BYTES: Final = 512


@dataclass(frozen=True)
class Said:
    """One message: `name` is what follows the line or stream in its topic, `at_s` is monotonic."""

    name: str
    payload: bytes
    retained: bool
    at_s: float


class UnreadableError(ValueError):
    """A payload that is not what its topic carries."""


def plain(payload: bytes) -> str | None:
    """Return a plain word; None for the empty payload that clears a retained topic."""
    if len(payload) > _TEXT_BYTES:
        raise UnreadableError("too long for a word")
    return payload.decode() or None


def one_of(words: tuple[str, ...], payload: bytes) -> str | None:
    """Return a plain word that is among `words`, or None."""
    word = plain(payload)
    if word is not None and word not in words:
        raise UnreadableError(f"{word!r} is none of {', '.join(words)}")
    return word
