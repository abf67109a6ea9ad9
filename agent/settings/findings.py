"""Translates pydantic's validation errors into findings: location, found value and expected value."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.settings.mistakes import HIDDEN, dotted, shown

_MEANT: Final = tuple(
    (word, key)
    for key, words in (
        ("username", "user login user_name"),
        ("password_file", "password pass passwd pwd"),
        ("url", "host server broker address port uri"),
        ("root", "prefix topic topic_prefix base_topic"),
        ("source", "url path rtsp camera device input uri file"),
        ("fps", "framerate frame_rate rate max_fps"),
        ("id", "name client_id device_id"),
        ("default", "model default_model"),
        ("memory_budget", "memory max_memory ram"),
        ("stream", "streams camera cameras source sources"),
        ("catalog", "models model"),
        ("mqtt", "broker server"),
        ("imgsz", "size imgsize image_size"),
        ("confidence", "conf threshold score"),
        ("file", "path weights"),
    )
    for word in words.split()
)
"""Pairs of a name that other products use for a key, and the name of that key here."""
_PASSWORD: Final = "password_file"  # noqa: S105 - a key's name
_CLOSE: Final = 0.7


class Finding(NamedTuple):
    """A mistake at one key, not yet assigned to a file or to the environment."""

    path: tuple[str | int, ...]
    found: str
    expected: str


def findings(error: ValidationError, root: type[BaseModel]) -> list[Finding]:
    """Translate all errors of validating `root`; a missing key is described by its field's `description`."""
    return [_finding(details, root) for details in error.errors(include_url=False)]


def _finding(details: ErrorDetails, root: type[BaseModel]) -> Finding:
    path = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] == "missing":
        return Finding(path, "nothing", _missing(path, root))
    if details["type"] == "extra_forbidden":
        return Finding(path, "an unknown key", _meant(path, root))
    found = shown(details["input"])
    if HIDDEN.intersection(path) and isinstance(details["input"], str):
        found = "a value that does not fit" if details["input"] else '""'
    return Finding(path, found, _expected(details, path))


def _meant(path: tuple[str | int, ...], root: type[BaseModel]) -> str:
    """Return what an unknown key was likely meant to be, and the keys that there are."""
    name, keys = str(path[-1]), list(_keys(_group_at(path, root)))
    lower = name.lower().replace("-", "_")
    meant = next((word for words, word in _MEANT if lower == words and word in keys), None)
    meant = meant or next(iter(get_close_matches(lower, keys, 1, _CLOSE)), None)
    known = f"one of {', '.join(keys)}"
    if meant == _PASSWORD:
        return f"{_PASSWORD}, the name of a file that holds it; {known}"
    if meant is not None:
        return f"{meant}; {known}"
    tables = [
        table for table, field in root.model_fields.items() if name in getattr(field.annotation, "model_fields", ())
    ]
    return f"it below [{tables[0]}]; {known}" if len(tables) == 1 else known


def _expected(details: ErrorDetails, path: tuple[str | int, ...]) -> str:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        return str(context["error"])
    if details["type"] == "model_type" and isinstance(details["input"], list):
        return f"one table: [{dotted(path)}] in single brackets"
    if details["type"] == "model_type" and path:  # without one in a list that `schedule/set` brought
        return (
            "a table, such as [line.line-1] with its keys below" if path[0] == "line" else f"a table [{dotted(path)}]"
        )
    if details["type"] in {"tuple_type", "list_type"}:
        return f"a list of tables: each begins with [[{path[-1]}]]" if len(path) == 1 else "a list"
    text = details["msg"].removeprefix("Input should be ").partition(", unable")[0]
    text = f"a number {text}" if text.startswith(("greater", "less")) else text
    return text.replace("a valid dictionary", "a table")


def _missing(path: tuple[str | int, ...], root: type[BaseModel]) -> str:
    fields = _group_at(path, root).model_fields
    described = {field.alias or name: field.description for name, field in fields.items()}
    return described.get(str(path[-1])) or "a value"


def _keys(group: type[BaseModel]) -> Iterator[str]:
    for name, field in group.model_fields.items():
        yield field.alias or name


def _group_at(path: tuple[str | int, ...], root: type[BaseModel]) -> type[BaseModel]:
    """Return the model that contains the last part of `path`."""
    group: Any = root
    for part in path[:-1]:
        field = group.model_fields.get(part)
        if field is not None:
            inner = [kind for kind in getattr(field.annotation, "__args__", ()) if hasattr(kind, "model_fields")]
            group = inner[0] if inner else field.annotation
    return group if hasattr(group, "model_fields") else root
