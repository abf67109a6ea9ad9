"""Values that exporters write as text: read within bounds, as a model's file comes from anywhere."""

import ast
import re
from typing import Final

MOST_CHARACTERS: Final = 1 << 16
"""Of one value: a thousand class names take a third. Python's parser takes a hundred times the text, with the GIL."""

_MOST_DEPTH: Final = 8
_STRING: Final = re.compile(r"'(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\"")
_PLAIN: Final = re.compile(r"(?:[\s\w.,:()\[\]{}]|-(?=[\d.]))*")
_WORDS: Final = {"true": True, "false": False, "none": None}


def read_literal(text: object) -> object:
    """Read a Python literal of strings, numbers, lists, tuples and dicts; any other text comes back as it is.

    None for a text that is too long. What is no text is returned as it is.
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


def _is_harmless(text: str) -> bool:
    """Say whether `text` nests no deeper than its few levels, and holds no operators: the parser recurses on both."""
    bare = _STRING.sub("", text)
    if not _PLAIN.fullmatch(bare):
        return False
    depth = deepest = 0
    for character in bare:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest <= _MOST_DEPTH
