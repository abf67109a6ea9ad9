"""Reads what another release of the agent has written, but for what this one does not know."""

from collections.abc import Callable
from enum import Enum
from types import UnionType
from typing import Any, Final, TypeVar, Union, cast, get_args, get_origin

import msgspec

from agent.control.orders.kept import KeptJob
from agent.control.snapshot import LineSnapshot

Kind = TypeVar("Kind", bound=msgspec.Struct)
_Mend = Callable[[dict[str, Any], list[str]], Any]


class _Unread(Enum):
    VALUE = 0


_UNREAD: Final = _Unread.VALUE
_MENDED: Final[dict[Any, _Mend]] = {LineSnapshot: LineSnapshot.of_parts, KeptJob: KeptJob.of_parts}
"""Structs that need some of their fields; each is made of those that were read, and the names of the others."""


def read(data: bytes, kind: type[Kind]) -> tuple[Kind, list[str]]:
    """Return a struct of all that can be read of its JSON, and the paths of what cannot.

    Raises msgspec.DecodeError for what is no JSON, or no object.
    """
    try:
        return msgspec.json.decode(data, type=kind), []
    except msgspec.ValidationError:
        unread: list[str] = []
        found = _struct(msgspec.Raw(data), kind, "", unread)
        if found is _UNREAD:
            raise
        return cast("Kind", found), unread


def _part(raw: msgspec.Raw, type_: Any, path: str, unread: list[str]) -> Any:  # noqa: ANN401 - of any field
    try:
        return msgspec.json.decode(raw, type=type_)
    except msgspec.ValidationError:
        found = _smaller(raw, type_, path, unread)
    if found is _UNREAD:
        unread.append(path)
    return found


def _smaller(raw: msgspec.Raw, type_: Any, path: str, unread: list[str]) -> Any:  # noqa: ANN401 - of any field
    """Return what can be read of a value that cannot be read whole."""
    origin, inner = get_origin(type_), get_args(type_)
    try:
        if origin in {Union, UnionType}:
            found = (_smaller(raw, one, path, unread) for one in inner)
            return next((one for one in found if one is not _UNREAD), _UNREAD)
        if origin is dict:
            parts = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
            read_ = {key: _part(one, inner[1], f"{path}.{key}", unread) for key, one in parts.items()}
            return {key: one for key, one in read_.items() if one is not _UNREAD}
        if origin is tuple:
            rows = msgspec.json.decode(raw, type=list[msgspec.Raw])
            each = [_part(one, inner[0], f"{path}.{number}", unread) for number, one in enumerate(rows)]
            return tuple(one for one in each if one is not _UNREAD)
        if isinstance(type_, type) and issubclass(type_, msgspec.Struct):
            return _struct(raw, type_, path, unread)
    except msgspec.ValidationError:
        pass  # because it is of another kind than it should be
    return _UNREAD


def _struct(raw: msgspec.Raw, kind: type[msgspec.Struct], path: str, unread: list[str]) -> Any:  # noqa: ANN401 - of any kind
    parts = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    known = {one.encode_name: one for one in msgspec.structs.fields(kind)}
    found = {
        known[name].name: _part(one, known[name].type, f"{path}.{name}".lstrip("."), unread)
        for name, one in parts.items()
        if name in known
    }
    fields = {name: one for name, one in found.items() if one is not _UNREAD}
    lacking = [name for name, one in found.items() if one is _UNREAD]
    lacking += [one.name for one in known.values() if one.required and one.encode_name not in parts]
    try:
        mend = _MENDED.get(kind)
        return mend(fields, lacking) if mend is not None and lacking else kind(**fields)
    except TypeError:
        return _UNREAD  # because it lacks a field that it needs
