"""Renamed keys: an old name still works, is logged, and is replaced by `changeover check --fix`."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final

from agent.settings.findings import Finding
from agent.settings.mistakes import dotted

Path = tuple[str | int, ...]
ANY: Final = "*"
"""Part of a table's path that stands for any name or index."""


@dataclass(frozen=True)
class Rename:
    """The renaming of one key: its table, its old name and its new name."""

    table: tuple[str, ...]
    """Path of the table that has the key; ANY for an index or a name."""
    old: str
    new: Callable[[dict[str, Any]], tuple[str, ...] | None]
    """Returns the key's new path within its table, given the table; None where the table does not determine it."""


@dataclass(frozen=True)
class Renamed:
    """A key found under its old name: the old and the new path."""

    old: Path
    new: Path

    def __str__(self) -> str:
        return f"{dotted(self.old)} is named {dotted(self.new)} now"


def to(name: str) -> Callable[[dict[str, Any]], tuple[str, ...]]:
    """Return a function for `Rename.new` that always gives the same new name."""
    return lambda _table: (name,)


def _in_files(entry: dict[str, Any]) -> tuple[str, ...] | None:
    file = entry.get("file")
    return ("files", PurePosixPath(file).with_suffix(".bin").name) if isinstance(file, str) and file else None


OF_CONFIGURATION: Final[tuple[Rename, ...]] = ()
"""Renamed keys of changeover.toml: none so far."""
OF_CATALOG: Final = (Rename(("model", ANY), "weights_sha256", _in_files),)
"""Renamed keys of models.toml."""


def understood(raw: dict[str, Any], renames: Sequence[Rename]) -> tuple[dict[str, Any], list[Renamed], list[Finding]]:
    """Return `raw` with new names, the renamed keys, and a finding for each key set under both its names."""
    found: list[Renamed] = []
    doubled: list[Finding] = []
    for rename in renames:
        for path, table in _tables(raw, rename.table, ()):
            if rename.old not in table:
                continue
            new = rename.new(table)
            if new is None:
                continue
            old_path, new_path = (*path, rename.old), (*path, *new)
            if _is_taken(table, new):
                wanted = f"{dotted(new_path)} alone: remove {rename.old}"
                doubled.append(Finding(old_path, f"an old name of {dotted(new_path)}, which is set too", wanted))
            else:
                found.append(Renamed(old_path, new_path))
    result = raw
    for one in found:
        result = moved(result, one)
    return result, found, doubled


def moved(raw: dict[str, Any], renamed: Renamed) -> dict[str, Any]:
    """Return a copy of `raw` with the value of a renamed key under its new name."""
    result = copy.deepcopy(raw)
    table: Any = result
    for part in renamed.old[:-1]:
        table = table[part]
    value = table.pop(renamed.old[-1])
    for part in renamed.new[len(renamed.old) - 1 : -1]:
        table = table.setdefault(part, {})
    table[renamed.new[-1]] = value
    return result


def _tables(value: object, pattern: tuple[str, ...], path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    if not pattern:
        if isinstance(value, dict):
            yield path, value
        return
    items: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        items = iter(value.items())
    elif isinstance(value, list):
        items = iter(enumerate(value))
    for name, inner in items:
        if pattern[0] in {ANY, name}:
            yield from _tables(inner, pattern[1:], (*path, name))


def _is_taken(table: dict[str, Any], path: tuple[str, ...]) -> bool:
    """Return True where `path` is set in `table`, or leads through a value that is no table."""
    inner: object = table
    for part in path:
        if not isinstance(inner, dict):
            return True
        if part not in inner:
            return False
        inner = inner[part]
    return True
