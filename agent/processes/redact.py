"""Hides what nobody should read in a log or a report."""

import re
from typing import Final

_USER: Final = re.compile(r"(\w://)\S*@")
_QUERY: Final = re.compile(r"(\w://[^\s?]*\?)\S*")


def redact(text: str) -> str:
    """Hide what a URL in `text` may hold of a user, a password or a token.

    Greedy up to the last @, since passwords are often pasted with / and @ unescaped; queries are hidden whole.
    """
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))
