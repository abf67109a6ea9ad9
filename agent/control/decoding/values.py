"""Tolerant decoder for the values that PLCs send.

Understood: text in each form of `plc_text`, numbers as controllers write them, JSON string, number, boolean, `{"value":
...}` with `id`, `at` and `ttl_s`, and any JSON document with a path to its value.
"""

import json
import math
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, Final, NoReturn

import msgspec

from agent.control.decoding.plc_text import NoTextError, text_of
from agent.messages.errors import MistakeError, Reason
from agent.messages.texts.numbers import LONGEST_PRODUCT, canonical_product

MAX_PAYLOAD_BYTES: Final = 4096
MAX_DOCUMENT_BYTES: Final = 65536
_FRACTION: Final = re.compile(r"(?<=\d\.)\d+")
_PADDING: Final = " \0\t\r\n"


class ValueRefusedError(MistakeError):
    """A payload that is no valid value; `reason` and the message go into the command's ack."""

    def __init__(self, reason: Reason, detail: str, command_id: str | None = None) -> None:
        super().__init__(detail)
        self.reason: Final = reason
        self.command_id: Final = command_id


class Value(msgspec.Struct, frozen=True):
    """A decoded value of 1 to 64 printable characters."""

    text: str
    command_id: str | None = None
    expires_unix_s: float | None = None
    """End of its time to live; None unless the payload had `at`."""


class _Written(float):
    """A JSON number with its original text, because the product `0.50` is not `0.5`."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text: Final = text


class Document(msgspec.Struct, frozen=True):
    """A decoded JSON document or plain text."""

    content: Any
    """The `value` of the document where it has one, else all of it."""
    command_id: str | None = None
    expires_unix_s: float | None = None


def decode(payload: bytes, read: Callable[[object], object] | None = None) -> Value | None:
    """Decode a payload of at most 4 KiB; None for an empty one, which only clears a retained message.

    With `read` the payload is a PLC's own JSON document in which `read` finds the value (or raises LookupError); its
    `id`, `at` and `ttl_s` are not ours. Raises ValueRefusedError.
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


def document(payload: bytes, limit_bytes: int = MAX_DOCUMENT_BYTES) -> Document | None:
    """Decode any JSON payload of at most `limit_bytes`; None for an empty one. Raises ValueRefusedError."""
    if not _has_content(payload, limit_bytes):
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
    if not (isinstance(command_id, str) and 0 < len(command_id) <= LONGEST_PRODUCT and command_id.isprintable()):
        raise ValueRefusedError("not_understood", "id: expected a text of 1 to 64 printable characters")
    return command_id


def _found(parsed: object, read: Callable[[object], object]) -> object:
    try:
        return read(parsed)
    except LookupError as error:
        raise ValueRefusedError("not_understood", str(error)) from error


def _text(payload: bytes) -> str:
    try:
        return text_of(payload)
    except NoTextError as error:
        raise ValueRefusedError("not_understood", str(error)) from error


def _json(text: str) -> Any:  # noqa: ANN401 - JSON is any of its types
    """Parse JSON; return other text itself. Raises ValueRefusedError for broken JSON that begins with {, [ or "."""
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_Written)
    except (ValueError, RecursionError) as error:
        if text[0] in '{["':
            raise ValueRefusedError("not_understood", f"broken JSON: {error}") from error
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueRefusedError("not_understood", f"{name} is no value")


def _canonical(value: Any, command_id: str | None) -> str:  # noqa: ANN401 - JSON is any of its types
    """Return the canonical text of a value: 17, 17.0 and "17" are "17"."""
    match value:
        case bool():
            text = "true" if value else "false"
        case int():
            text = str(value)
        case _Written() if math.isfinite(value):
            text = value.text
        case str():
            text = value.strip(_PADDING)
        case _:
            raise ValueRefusedError("not_understood", "expected a text, a number or a boolean", command_id)
    try:
        return canonical_product(text)
    except ValueError as error:
        raise ValueRefusedError("not_understood", str(error), command_id) from error


def _expiry(parsed: dict[str, Any], command_id: str | None) -> float | None:
    """Return `at` + `ttl_s` as Unix seconds; without `at`, both are ignored."""
    if parsed.get("at") is None:
        return None
    try:
        # Because Python 3.10 parses only 3 or 6 digits of a second, and .NET writes 7.
        text = _FRACTION.sub(lambda digits: digits[0][:6].ljust(6, "0"), str(parsed["at"]).replace("Z", "+00:00"))
        at = datetime.fromisoformat(text)
        at_unix_s = (at if at.tzinfo is not None else at.replace(tzinfo=timezone.utc)).timestamp()
        ttl_s = float(parsed.get("ttl_s", "nan"))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueRefusedError("not_understood", f"at, ttl_s: {error}", command_id) from error
    return at_unix_s + ttl_s if math.isfinite(ttl_s) else None
