"""One tolerant decoder for whatever a PLC sends as a value.

Understood: UTF-8, Latin-1, UTF-16 with and without a mark, padding by NUL and spaces, the header of an S7 STRING
(two bytes: maximum length, length), JSON string, number, boolean, `{"value": ...}` with `id`, `at` and `ttl_s`, and any
JSON document with a path to its value.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final, NoReturn

import msgspec

from agent.messages.errors import MistakeError, Reason

MAX_PAYLOAD_BYTES: Final = 4096
MAX_DOCUMENT_BYTES: Final = 65536
_MAX_VALUE_CHARACTERS: Final = 64
_SHORTEST_HEADER: Final = 2
_WHOLE: Final = re.compile(r"(-?\d+)\.0+")
_FRACTION: Final = re.compile(r"(?<=\d\.)\d+")
_PADDING: Final = " \0\t\r\n"


class ValueRefusedError(MistakeError):
    """A payload that cannot be a value; `reason` is the ack's word."""

    def __init__(self, reason: Reason, detail: str, command_id: str | None = None) -> None:
        super().__init__(detail)
        self.reason: Final = reason
        self.command_id: Final = command_id


class Value(msgspec.Struct, frozen=True):
    """A decoded payload: `text` has 1 to 64 printable characters; `expires_unix_s` only where `at` was given."""

    text: str
    command_id: str | None = None
    expires_unix_s: float | None = None


class _Written(float):
    """A JSON number with a point or an exponent, as it was written: the product `0.50` is not `0.5`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: Final = text


class Document(msgspec.Struct, frozen=True):
    """A decoded JSON document (or a plain text); where it was `{"value": ...}`, `content` is that value."""

    content: Any
    command_id: str | None = None
    expires_unix_s: float | None = None


def decode(payload: bytes, read: Callable[[object], object] | None = None) -> Value | None:
    """Decode a payload of at most 4 KiB; None for an empty one (a cleared retained message is no command).

    With `read` the payload is a JSON document of somebody else's, and `read` finds the value in it (or raises
    LookupError); what that document calls `id`, `at` and `ttl_s` is not ours. Raises ValueRefusedError.
    """
    if not _has_content(payload, MAX_PAYLOAD_BYTES):
        return None
    parsed = _json(_text(payload))
    if read is not None:
        return Value(_canonical(_found(parsed, read), None))
    if not isinstance(parsed, dict):
        return Value(_canonical(parsed, None))
    command_id = _command_id(parsed)
    if "value" not in parsed:
        raise ValueRefusedError("not_understood", 'a JSON object needs a "value"', command_id)
    return Value(_canonical(parsed["value"], command_id), command_id, _expiry(parsed, command_id))


def document(payload: bytes) -> Document | None:
    """Decode a payload of at most 64 KiB that may be any JSON; None for an empty one. Raises ValueRefusedError."""
    if not _has_content(payload, MAX_DOCUMENT_BYTES):
        return None
    parsed = _json(_text(payload))
    if not isinstance(parsed, dict):
        return Document(parsed)
    command_id = _command_id(parsed)
    return Document(parsed.get("value", parsed), command_id, _expiry(parsed, command_id))


def _has_content(payload: bytes, limit_bytes: int) -> bool:
    if len(payload) > limit_bytes:
        raise ValueRefusedError("too_large", f"{len(payload)} bytes; at most {limit_bytes} are read here")
    return bool(payload)


def _command_id(parsed: dict[str, Any]) -> str | None:
    command_id = parsed.get("id")
    if command_id is None:
        return None
    if not (isinstance(command_id, str) and 0 < len(command_id) <= _MAX_VALUE_CHARACTERS and command_id.isprintable()):
        raise ValueRefusedError("not_understood", "id: expected a text of 1 to 64 printable characters")
    return command_id


def _found(parsed: object, read: Callable[[object], object]) -> object:
    try:
        return read(parsed)
    except LookupError as error:
        raise ValueRefusedError("not_understood", str(error)) from error


def _text(payload: bytes) -> str:
    if _is_empty_s7(payload):
        raise ValueRefusedError("not_understood", "an S7 STRING without a character")
    # A length below a space is no letter: such a header comes first, and what stands after the length is not the value.
    has_header = len(payload) > _SHORTEST_HEADER and payload[1] < ord(" ") and not _is_laid_out(payload)
    for candidate in (_utf16, _s7 if has_header else _utf8, _utf8, _s7, _latin1):
        text = candidate(payload)
        if text is not None:
            return text
    raise ValueRefusedError("not_understood", f"{len(payload)} bytes that are no text in any encoding known here")


def _is_laid_out(payload: bytes) -> bool:
    """Whether this is a JSON document over several lines: in a short one, brace and line feed look like a header."""
    if payload[:1] not in {b"{", b"["}:
        return False
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return True


def _utf16(payload: bytes) -> str | None:
    if payload[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return _printable(_decoded(payload, "utf-16"))
    body = payload if len(payload) % 2 == 0 else b""
    for zeros, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # Products have mostly Latin names: every other byte is zero, and none between them, up to the padding.
        high, low = body[zeros::2], body[1 - zeros :: 2].rstrip(b"\0")
        if low and not any(high) and 0 not in low:
            return _printable(_decoded(body, encoding))
    return None


def _is_empty_s7(payload: bytes) -> bool:
    """Whether this is an S7 STRING of length 0, whose maximum alone would read as a letter: 254 as `þ`, 64 as `@`.

    One letter or digit of ASCII, in UTF-16 or padded by chance to that length, is taken for what it says all the same.
    """
    maximum, letter = payload[0], payload[:1]
    return not any(payload[1:]) and len(payload) in {2, 2 + maximum} and not letter.isalnum()


def _utf8(payload: bytes) -> str | None:
    return _printable(_decoded(payload, "utf-8-sig"))


def _s7(payload: bytes) -> str | None:
    if len(payload) < _SHORTEST_HEADER:
        return None
    maximum, length = payload[0], payload[1]
    if length > maximum or len(payload) not in {2 + maximum, 2 + length}:
        return None
    return _printable(_decoded(payload[2 : 2 + length], "utf-8") or payload[2 : 2 + length].decode("latin-1"))


def _latin1(payload: bytes) -> str | None:
    return _printable(payload.decode("latin-1"))


def _decoded(payload: bytes, encoding: str) -> str | None:
    try:
        return payload.decode(encoding)
    except UnicodeDecodeError:
        return None


def _printable(text: str | None) -> str | None:
    """Return the text without its padding; None if what remains has control characters or is nothing."""
    if text is None:
        return None
    trimmed = text.strip(_PADDING)
    is_json = trimmed[:1] in {"{", "["}
    inner = trimmed.replace("\n", " ").replace("\r", " ").replace("\t", " ") if is_json else trimmed
    return trimmed if inner and inner.isprintable() else None


def _json(text: str) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Parse `text` as JSON where it looks like it; otherwise it is its own value."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_Written)
    except (ValueError, RecursionError) as error:
        if text[0] in '{["':
            raise ValueRefusedError("not_understood", f"broken JSON: {error}") from error
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueRefusedError("not_understood", f"{name} is no value")


def _canonical(value: Any, command_id: str | None) -> str:  # noqa: ANN401 - JSON is any of its types
    """Return a value's one text: 17, 17.0 and "17" are "17"."""
    match value:
        case bool():
            text = "true" if value else "false"
        case int():
            text = str(value)
        case _Written() if math.isfinite(value):
            text = _number(value)
        case str():
            text = _whole(value.strip(_PADDING))
        case _:
            raise ValueRefusedError("not_understood", "expected a text, a number or a boolean", command_id)
    if not (1 <= len(text) <= _MAX_VALUE_CHARACTERS and text.isprintable()):
        raise ValueRefusedError("not_understood", "expected 1 to 64 printable characters", command_id)
    return text


def _number(number: _Written) -> str:
    """Return a number as it was written: `0.50` and `4E2` may be products. A REAL such as `1.700000E+01` is `17`."""
    mantissa, exponent, _ = number.text.lower().partition("e")
    if not exponent or "." not in mantissa:
        return _whole(number.text)
    return str(int(number)) if number.is_integer() else repr(float(number))


def _whole(text: str) -> str:
    """Cut a fraction of zero: a register sent as the text "17.0" is 17 too."""
    match = _WHOLE.fullmatch(text)
    return match[1] if match else text


def _expiry(parsed: dict[str, Any], command_id: str | None) -> float | None:
    """`at` + `ttl_s` as Unix seconds; without `at`, both are ignored."""
    if parsed.get("at") is None:
        return None
    try:
        # Python 3.10 reads 3 or 6 digits of a second alone; .NET writes 7.
        text = _FRACTION.sub(lambda digits: digits[0][:6].ljust(6, "0"), str(parsed["at"]).replace("Z", "+00:00"))
        at = datetime.fromisoformat(text)
        at_unix_s = (at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)).timestamp()
        ttl_s = float(parsed.get("ttl_s", "nan"))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueRefusedError("not_understood", f"at, ttl_s: {error}", command_id) from error
    return at_unix_s + ttl_s if math.isfinite(ttl_s) else None
