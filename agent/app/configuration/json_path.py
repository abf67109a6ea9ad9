"""JSON path to a value in a PLC's own document."""

import re
from collections.abc import Callable
from typing import Final

from agent.messages.errors import MistakeError

_SHORTHAND: Final = re.compile(r"\.([^.\[\]]+)")


def reader(path: str) -> Callable[[object], object]:
    """Compile `path` into a function that returns the one value there.

    Raises MistakeError for an invalid path. The function raises LookupError for a document without one value there.
    """
    # Imported here, because the library costs 4 MB and 0.1 s that few plants need.
    from jsonpath import JSONPathError, compile  # noqa: A004, PLC0415 - see above; the library's own name

    try:
        compiled = compile(path)
    except JSONPathError as error:
        try:
            compiled = compile(_SHORTHAND.sub(_bracketed, path))
        except JSONPathError:
            raise MistakeError(f"binding.value: {path!r} is no JSON path: {error}") from None

    def read(parsed: object) -> object:
        try:
            found = compiled.findall(parsed) if isinstance(parsed, (dict, list)) else []
        except (JSONPathError, RecursionError) as error:
            # RecursionError, because 4 KiB allow a document nested deeper than the stack.
            raise LookupError(f"nothing at {path} in the document: {error}") from None
        if len(found) != 1:
            raise LookupError(f"nothing at {path} in the document")
        return found[0]

    return read


def _bracketed(match: re.Match[str]) -> str:
    # Because RFC 9535 requires quotes around names such as `1st`, and our configuration does not.
    name = match[1].replace("\\", "\\\\")
    return f"['{name}']"
