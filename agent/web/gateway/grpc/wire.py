"""Bounds on a message's bytes before a parser makes objects of them, which may take fifty times as much."""

from typing import Final

from agent.web.gateway.core.faults import RequestError, invalid

_RAW_FIELD: Final = 7
"""raw_input_contents of ModelInferRequest, which take no more than their bytes; other requests have no such field."""
_MOST_FIELDS: Final = 1024
_MOST_TYPED_BYTES: Final = 4 << 20
_LENGTH_DELIMITED: Final = 2
_LONGEST: Final = 10
"""Bytes of a number."""


def require_proportionate(content: bytes) -> None:
    """Raise RequestError for a message with many fields, or with more than 4 MiB outside its raw tensors."""
    at = count = typed_bytes = 0
    while at < len(content):
        start = at
        tag, at = _number(content, at)
        if tag & 7 != _LENGTH_DELIMITED:  # a flag of few bytes, or broken, which the parser says
            typed_bytes += len(content) - start
            at = len(content)
        else:
            size, at = _number(content, at)
            at += size
            typed_bytes += 0 if tag >> 3 == _RAW_FIELD else size
        count += 1
        if count > _MOST_FIELDS:
            raise invalid(f"the message has more than {_MOST_FIELDS} fields")
        if typed_bytes > _MOST_TYPED_BYTES:
            detail = f"contents of more than {_MOST_TYPED_BYTES >> 20} MiB: send them as raw_input_contents"
            raise RequestError("too_large", detail)


def _number(content: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and the place behind it. Raises RequestError where there is none."""
    value = 0
    for place, byte in enumerate(content[at : at + _LONGEST]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004 - the last byte of a number has its highest bit clear
            return value, at + place + 1
    raise invalid("the message is no protobuf of its kind")
