"""Configuration and catalog as the archive shows them: known keys alone, without comments."""

import re
import shlex
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from agent.models.catalog_entry import CatalogFile, ModelEntry
from agent.settings import Settings, SettingsError, read_toml
from agent.support.scrubber import HIDDEN, Scrubber

_NAMED_TABLES: Final = frozenset({"line", "products", "group", "host", "files"})
"""Tables whose keys are names that users choose, such as lines and products."""
_HIDDEN_KEYS: Final = frozenset({"username"})
_PROPERTIES: Final = frozenset(
    {
        "device",
        "width",
        "height",
        "framerate",
        "format",
        "latency",
        "protocols",
        "drop",
        "max-buffers",
        "sync",
        "is-live",
    }
)
_CAPS: Final = re.compile(r"(?:video|image|audio|application)/[\w.-]+")


def _keys_of(*kinds: type[BaseModel]) -> frozenset[str]:
    found: set[str] = set()
    for kind in kinds:
        for name, field in kind.model_fields.items():
            found |= {name, field.alias or name}
    return frozenset(found)


def _groups(kind: type[BaseModel]) -> list[type[BaseModel]]:
    from agent.settings import model  # noqa: PLC0415 - read whole here alone

    kinds = [one for one in vars(model).values() if isinstance(one, type) and issubclass(one, BaseModel)]
    return [kind, *kinds]


KEYS: Final = _keys_of(*_groups(Settings), CatalogFile, ModelEntry)
"""Keys whose values are shown; any other may hold whatever somebody put there by mistake."""


def shown_file(file: Path, scrubber: Scrubber) -> Any:  # noqa: ANN401 - a document, as JSON holds it
    """Return a TOML file's known keys with values; of an invalid file the keys alone. Raises OSError if unreadable."""
    try:
        return shown(read_toml(file), scrubber)
    except SettingsError as error:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        where = [re.sub(r":\s.*", "", str(mistake.file)) for mistake in error.mistakes]
        return {"not_read": where, "keys": [_key_of(line) for line in lines]}


def shown(value: Any, scrubber: Scrubber, *, is_named: bool = False) -> Any:  # noqa: ANN401 - as above
    """Return a document with the values of known keys; other values are hidden."""
    if isinstance(value, dict):
        return {
            scrubber.text(str(key)): shown(one, scrubber, is_named=key in _NAMED_TABLES)
            if (is_named or key in KEYS) and key not in _HIDDEN_KEYS
            else HIDDEN
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [shown(one, scrubber) for one in value]
    if isinstance(value, str) and value.startswith("gst:"):
        return f"gst:{pipeline(value[4:])}"
    return (
        scrubber.text(value) if isinstance(value, str) else str(value) if not isinstance(value, (int, float)) else value
    )


def pipeline(text: str) -> str:
    """Return a pipeline's elements, with the properties that hold no secret."""
    try:
        words = shlex.split(text)
    except ValueError:
        return HIDDEN
    return " ".join(_word(word) for word in words)


def _word(word: str) -> str:
    if word == "!" or re.fullmatch(r"[a-z][\w-]*\.?", word):
        return word
    name, equals, _ = word.partition("=")
    if equals and name in _PROPERTIES:
        return word
    if _CAPS.match(word):
        return _CAPS.match(word)[0]  # type: ignore[index] # it matched a moment ago
    return f"{name}={HIDDEN}" if equals and re.fullmatch(r"[\w-]+", name) else HIDDEN


def _key_of(line: str) -> str:
    table = re.match(r"\s*\[{1,2}([\w.\-\"]+)\]{1,2}\s*(?:#.*)?$", line)
    if table is not None:
        return f"[{table[1]}]"
    key = re.match(r"\s*([\w-]+)\s*=", line)
    return f"{key[1]} = {HIDDEN}" if key is not None and key[1] in KEYS else HIDDEN if line.strip() else ""
