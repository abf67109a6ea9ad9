"""Lists of known names, for the details of refused commands."""

from collections.abc import Iterable
from typing import Final

_NAMED: Final = 8
"""Names in one list; further ones are counted, because a detail must fit into one line."""


def known(kind: str, names: Iterable[str]) -> str:
    """Return `known KIND: a, b and 3 more`, or that there is none."""
    found = list(dict.fromkeys(names))
    if not found:
        return f"there are no {kind}"
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return f"known {kind}: {', '.join(found[:_NAMED])}{more}"
