"""Mistakes in a user's files, worded so that a user can correct them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.messages.errors import MistakeError
from agent.redact import redact

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN: Final = 60


@dataclass(frozen=True)
class Mistake:
    """One mistake: location, found value and expected value; it never contains a secret."""

    file: str
    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return f"{where}: found {self.found}, expected {self.expected}"


class SettingsError(MistakeError):
    """All mistakes of one run."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes: Final = tuple(mistakes)
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


def dotted(path: Sequence[str | int]) -> str:
    """Format a path as in TOML: `stream[1].fps`, `line."a b".default`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE.fullmatch(part) else f'"{part}"')
    return text


def shown(value: object) -> str:
    """Format a found value: short, and without credentials or queries of a URL."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    text = redact(text)
    text = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return f'"{text}"' if isinstance(value, str) else text
