"""Mistakes in a user's files, worded so that a user can correct them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from agent.messages.errors import MistakeError
from agent.redact import redact

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN: Final = 60
_LINE_SHOWN: Final = 120
HIDDEN: Final = frozenset(
    {
        "username",
        "password_file",
        "key_file",
        "source",
        "trusted_keys",
        "access_key_file",
        "secret_key_file",
        "token_file",
    }
)
"""Keys whose values are not shown, because a secret stands there often enough."""
_KEY: Final = re.compile(r"""\s*["']?([\w.-]+)["']?""")
_PLACE: Final = re.compile(r"""["']?(?:credential:|\.{0,2}/|~/)[\w.~%/-]+["']?\s*(?:#.*)?""")
_FILES: Final = {"source", "password_file", "key_file", "access_key_file", "secret_key_file", "token_file"}
_PLAIN_URL: Final = re.compile(r"""["']?\w+:/*[\w.-]+(?::\d+)?(?:/[\w./-]*)?["']?\s*(?:#.*)?""")


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
    """All mistakes that were found in the configuration or in the catalog, one on each line of the message."""

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


def shown_line(line: str) -> str:
    """Format a line of a file: short, and without what could be a secret."""
    text = line.strip()
    key = _KEY.match(text)
    name = key[1].rpartition(".")[2] if key else ""
    if key and (name in HIDDEN or redact(f"{name}=secret") != f"{name}=secret"):
        value = text[key.end() :].lstrip(" \t=:")
        is_path = name in _FILES and _PLACE.fullmatch(value)
        is_plain = is_path or (name == "source" and _PLAIN_URL.fullmatch(value))
        text = text if is_plain else f"{key[0].strip()} = ***"
    text = redact("".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in text))
    return text if len(text) <= _LINE_SHOWN else text[: _LINE_SHOWN - 3] + "..."
