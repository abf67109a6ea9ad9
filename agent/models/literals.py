"""Bounded parser for Python literals in a model file's metadata, because the file may come from anybody."""

import ast
import re
from collections.abc import Mapping
from typing import Final

MOST_CHARACTERS: Final = 1 << 16
"""Longest text of one value, in characters: three times what a thousand class names take.

Python's parser takes a hundred times the text's memory, and holds the GIL meanwhile.
"""

_MOST_DEPTH: Final = 8
_STRING: Final = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_PLAIN: Final = re.compile(r"(?:[\s\w.,:()\[\]{}]|-(?=[\d.]))*")
_WORDS: Final = {"true": True, "false": False, "none": None}


def read_literal(text: object) -> object:
    """Parse a Python literal of strings, numbers, lists, tuples and dicts; return any other value unchanged.

    Returns None for a text longer than MOST_CHARACTERS.
    """
    if not isinstance(text, str):
        return text
    if len(text) > MOST_CHARACTERS:
        return None
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    if not _is_harmless(text):
        return text
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def read_names(value: object) -> tuple[str, ...]:
    """Return the class names of a file's `names` in the order of their index; empty where an index is missing."""
    value = read_literal(value)
    if isinstance(value, Mapping):
        by_index = {_index(key): name for key, name in value.items()}
        value = [by_index.get(index) for index in range(len(value))]
    if not isinstance(value, list | tuple) or not all(isinstance(name, str | int | float) for name in value):
        return ()
    return tuple(map(str, value))


def _index(key: object) -> int | None:
    try:
        return int(key)  # type: ignore[call-overload, no-any-return] # anything else is no index
    except (TypeError, ValueError, OverflowError):
        return None


def _is_harmless(text: str) -> bool:
    """Return True for a text without operators and deep nesting, because Python's parser recurses on both."""
    bare = _STRING.sub("", text)
    if not _PLAIN.fullmatch(bare):
        return False
    depth = deepest = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest <= _MOST_DEPTH
