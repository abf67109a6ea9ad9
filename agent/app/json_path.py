"""Where in a PLC's own JSON document a value stands."""

import re
from collections.abc import Callable
from typing import Final

from agent.messages.errors import MistakeError

_SHORTHAND: Final = re.compile(r"\.([^.\[\]]+)")


def reader(path: str) -> Callable[[object], object]:
    """Return what finds the one value at `path`. Raises MistakeError for a path that cannot be read.

    What it returns raises LookupError where a document has no value there.
    """
    # Only a plant with such a binding pays for the library: some 4 MB and 0.1 s.
    from jsonpath import JSONPathError, compile  # noqa: A004, PLC0415 - see above; the library's own name

    try:
        compiled = compile(_SHORTHAND.sub(_bracketed, path))
    except JSONPathError as error:
        raise MistakeError(f"binding.value: {path!r} is no JSON path: {error}") from None

    def read(parsed: object) -> object:
        found = compiled.findall(parsed) if isinstance(parsed, (dict, list)) else []
        if len(found) != 1:
            raise LookupError(f"nothing at {path} in the document")
        return found[0]

    return read


def _bracketed(match: re.Match[str]) -> str:
    # Names such as `recipe-id` or `1st` need quotes in the standard (RFC 9535), and none in our configuration.
    name = match[1].replace("\\", "\\\\")
    return f"['{name}']"
