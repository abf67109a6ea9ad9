"""Tensors as JSON: bounded by their shape before anything is made of the text, so that it stays in proportion."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from agent.messages.web import byte_elements
from agent.web.gateway.core import tensors
from agent.web.gateway.core.faults import RequestError, invalid
from agent.web.gateway.core.tensors import BYTES, Tensor, shown

MOST_BYTES: Final = 4 << 20
"""JSON of a request, and bytes of an answer's tensors that are wanted as JSON: a number takes ten times its size while
it is text and object."""
_DEEPEST: Final = 100
"""Lists within lists of one tensor's JSON data."""
_PIECE_BYTES: Final = 64 << 10
_IN_LISTS: Final = bytes(byte for byte in range(256) if byte not in b"[],")
_BRACKETS: Final = b"[] \t\r\n"
_TEXT: Final = re.compile(rb'"[^"]*"')


def of_text(name: str, datatype: str, shape: Sequence[int], text: bytes) -> Tensor:
    """Return the tensor of valid JSON, nested regularly or flat. Raises RequestError that names it."""
    count = tensors.elements(shape, name, datatype)
    if datatype == BYTES:
        found = _texts(name, count, text)
        return tensors.checked(name, datatype, shape, byte_elements.joined(one.encode() for one in found))
    tensors.require_typed(name, datatype)
    _require_regular(name, count, text.translate(None, _IN_LISTS))
    flat = text.translate(None, _BRACKETS)
    if not count and not flat.strip(b","):  # lists without an element, such as [[], []] of shape [2, 0]
        flat = b""
    raw = b"".join(_parts(name, datatype, flat))
    return tensors.checked(name, datatype, shape, raw)


def to_values(tensor: Tensor) -> list[Any]:
    """Return a tensor's elements as flat JSON values. Raises RequestError for one that JSON cannot hold."""
    if tensor.datatype == BYTES:
        return [one.decode("utf-8", "replace") for one in tensors.split(tensor.raw, tensor.name)]
    values = tensors.values_of(tensor)
    if not _are_finite(tensor.datatype, values):
        raise invalid(f"outputs: {shown(tensor.name)} holds NaN or infinity: ask for it as binary data")
    return values


def require_small(outputs: Sequence[Tensor]) -> None:
    """Raise RequestError where outputs are too large to be answered as JSON."""
    if sum(len(one.raw) for one in outputs) > MOST_BYTES:
        names = ", ".join(shown(one.name) for one in outputs[:8])
        raise invalid(f"outputs: {names} have more than {MOST_BYTES >> 20} MiB: ask for them as binary data")


def _parts(name: str, datatype: str, text: bytes) -> Iterator[bytes]:
    """Yield the elements of each piece of a flat text, so that no list holds all its numbers."""
    kind: Any = list[float] if datatype.startswith("FP") else list[bool] if datatype == "BOOL" else list[int]
    at = 0
    while at < len(text):
        end = text.find(b",", at + _PIECE_BYTES)
        end = len(text) if end < 0 else end
        try:
            numbers = msgspec.json.decode(b"[%s]" % text[at:end], type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise _irregular(name, datatype) from None
        if not _are_finite(datatype, numbers):
            raise tensors.beyond(name, datatype)
        yield tensors.packed(name, datatype, numbers)
        at = end + 1


def _texts(name: str, count: int, text: bytes) -> list[str]:
    plain = text.replace(rb"\\", b"__").replace(rb"\"", b"__")  # of the same length, with no quote within a text
    if count > byte_elements.MOST_ELEMENTS:
        raise invalid(f"inputs: {shown(name)} has more than {byte_elements.MOST_ELEMENTS} elements")
    spans: list[tuple[int, int]] = []
    for one in _TEXT.finditer(plain):
        if len(spans) == count:
            raise _miscounted(name, count)
        spans.append(one.span())
    around = _TEXT.sub(b"", plain)
    if around.translate(None, _BRACKETS + b",") or len(spans) != count:
        raise invalid(f"inputs: {shown(name)} is {BYTES}: its data are {count} texts")
    _require_regular(name, count, around.translate(None, _IN_LISTS))
    try:
        return msgspec.json.decode(b"[%s]" % b",".join(text[start:end] for start, end in spans), type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise invalid(f"inputs: {shown(name)} has a text that is no Unicode") from None


def _require_regular(name: str, count: int, lists: bytes) -> None:
    """Raise RequestError unless `lists`, the brackets and commas of JSON, have `count` elements, nested regularly."""
    if count and lists.count(b",") != count - 1:
        raise _miscounted(name, count)
    for _ in range(_DEEPEST):
        end = lists.find(b"]") + 1
        if not end:
            return
        inner = lists[lists.rfind(b"[", 0, end) : end]
        left = lists.replace(inner, b"x")
        if any(mixed in left for mixed in (b"[,", b"[]", b",,", b",]")):
            raise _irregular(name, "")
        lists = left.replace(b"x", b"")
    if lists:
        raise invalid(f"inputs: {shown(name)}: JSON nesting depth exceeds maximum allowed limit ({_DEEPEST})")


def _are_finite(datatype: str, numbers: Sequence[Any]) -> bool:
    return not datatype.startswith("FP") or all(map(math.isfinite, numbers))


def _miscounted(name: str, count: int) -> RequestError:
    return invalid(f"inputs: {shown(name)} has not the {count} elements of its shape")


def _irregular(name: str, datatype: str) -> RequestError:
    of = f" is {datatype}: data" if datatype else ""
    return invalid(f"inputs: {shown(name)}{of} holds other values, or lists of different lengths")
