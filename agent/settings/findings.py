"""Translation of pydantic's errors: location, found value and expected value."""

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.settings.mistakes import shown

_WORTH_HIDING: Final = {"username", "password_file", "key_file", "source", "trusted_keys"}


class Finding(NamedTuple):
    """A mistake that is not yet assigned to a file."""

    path: tuple[str | int, ...]
    found: str
    expected: str


def findings(error: ValidationError, root: type[BaseModel]) -> list[Finding]:
    """Translate all validation errors of `root`; a field's description is the text for a missing key."""
    return [_finding(details, root) for details in error.errors(include_url=False)]


def _finding(details: ErrorDetails, root: type[BaseModel]) -> Finding:
    path = tuple(part for part in details["loc"] if part != "[key]")
    if details["type"] == "missing":
        return Finding(path, "nothing", _missing(path, root))
    if details["type"] == "extra_forbidden":
        return Finding(path, "an unknown key", f"one of {', '.join(_keys(_group_at(path, root)))}")
    found = shown(details["input"])
    if _WORTH_HIDING.intersection(path) and isinstance(details["input"], str):
        found = "a value that does not fit" if details["input"] else '""'
    return Finding(path, found, _expected(details))


def _expected(details: ErrorDetails) -> str:
    context = details.get("ctx", {})
    if details["type"] == "value_error":
        return str(context["error"])
    if details["type"] == "model_type":
        return "a table"
    if details["type"] in {"tuple_type", "list_type"}:
        return "a list (of tables: each begins with [[NAME]])"
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
