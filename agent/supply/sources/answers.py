"""JSON answers of servers, decoded into the types that a source expects."""

from typing import TypeVar

import msgspec

from agent.messages.errors import ModelError

_T = TypeVar("_T")


def decoded(data: bytes, kind: type[_T], url: str, expected: str) -> _T:
    """Return a server's answer as `kind`. Raises ModelError where it is no JSON of that form; `expected` in words."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ModelError("source_refused", f"{url}: the answer is not {expected}: {error}") from None
