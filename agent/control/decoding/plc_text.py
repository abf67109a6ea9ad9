"""Decoder for text in a PLC's memory, told apart from binary numbers.

Two to eight bytes with a NUL may be either. They count as a number, because a refusal is noticed at set-up and a wrong
product is not.
"""

import json
import struct
from collections.abc import Callable, Iterator
from typing import Final

_LETTER: Final = ord(" ")
"""A length below this is a control character, so it must be the header of a counted string."""
_BEYOND_ASCII: Final = 128
_DELETE: Final = 127
_BEYOND_LATIN_1: Final = 256
_NUMBER_SIZES: Final = (2, 4, 8)
_LARGEST_INTEGER: Final = 0x2FFF
"""Above this, two bytes may be two digits: `17` padded to four bytes is 14129 as a DINT, and is text."""
_LARGEST_REAL: Final = 9999
_LARGEST_ODD_REAL: Final = 99_999
"""Non-ASCII bytes that form a whole REAL up to this value are likelier a number than a short text with umlauts."""
_LONGEST_TEXT: Final = 64
_WIDE: Final = 2
_UTF16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_PADDING: Final = " \t\r\n"
_BRACKETS: Final = frozenset(b"[{")
_LINE_ENDS: Final = b"\t\r\n"


class NoTextError(ValueError):
    """Bytes that hold no text; the message says what they may be."""


def text_of(payload: bytes) -> str:
    """Return the text in `payload` without its padding. Raises NoTextError."""
    if _is_number(payload):
        raise NoTextError(f"{len(payload)} bytes that may be a number in binary: send it as text, such as 49")
    if _is_empty_string(payload):
        raise NoTextError("an S7 STRING or WSTRING without a character")
    for form in _forms(payload):
        text = form(payload)
        if text is not None:
            return text
    raise NoTextError(f"{len(payload)} bytes that are no text in any form known here")


def _forms(payload: bytes) -> Iterator[Callable[[bytes], str | None]]:
    if payload[:2] in _UTF16_MARKS:
        yield _marked_utf16
        return  # because its bytes would also decode as Latin-1
    yield _s7_wstring
    yield _logix_string
    if _begins_with_dint(payload) or _is_wide_text(payload):
        return
    if len(payload) > _WIDE and _is_counted_for_sure(payload):
        # before the plain forms, because bytes behind the counted length are not part of the value
        yield _s7_string
    yield _utf16
    yield _utf8
    yield _s7_string
    yield _latin1


def _is_number(payload: bytes) -> bool:
    """Return True for an INT, DINT, LINT, REAL or LREAL rather than a text padded to that size."""
    size = len(payload)
    if size not in _NUMBER_SIZES:
        return False
    negative = b"\xff" * max(1, size // 2)
    begins_oddly = payload[0] in _LINE_ENDS and payload[1] >= _LETTER  # an INT of 12553 would be the product `1`
    if begins_oddly or payload.startswith(negative) or payload.endswith(negative):
        return True
    if 0 not in payload:
        return False
    if len(payload.strip(b"\0").strip()) <= 1 or int.from_bytes(payload, "little") <= _LARGEST_INTEGER:
        return True
    if size == _NUMBER_SIZES[0]:
        return False
    reals = (struct.unpack(order + ("f" if size == _NUMBER_SIZES[1] else "d"), payload)[0] for order in "<>")
    largest = _LARGEST_REAL if payload.isascii() else _LARGEST_ODD_REAL
    return any(1 <= abs(real) <= largest and float(real).is_integer() for real in reals)


def _begins_with_dint(payload: bytes) -> bool:
    """Return True where three NULs and more follow the first byte.

    It is a little-endian DINT with a second field, UTF-32, or a Logix LEN that does not fit its DATA. Memory behind
    one character is one NUL and old characters, or NULs only.
    """
    return payload[1:4] == b"\0\0\0" and any(payload[4:])


def _is_wide_text(payload: bytes) -> bool:
    """Return True for UTF-16-LE beyond Latin-1, whose first letter alone would be a text with old characters.

    Two ASCII characters are a CJK letter as well. They count as one where a payload of a number's size has no NUL at
    its end, as an IEC STRING always has.
    """
    if payload[1:2] != b"\0":
        return False
    text = payload[: len(payload) // 2 * 2].decode("utf-16-le", "replace").partition("\0")[0]
    if not text.isprintable() or not any(ord(letter) >= _BEYOND_LATIN_1 for letter in text):
        return False
    is_whole = 2 * len(text) == len(payload) <= _NUMBER_SIZES[-1] and payload[-1] != 0
    behind = text[1:].encode("utf-16-le").rstrip(b"\0")
    return "\u20ac" in text or is_whole or not all(_is_old_character(byte) for byte in behind)


def _is_old_character(byte: int) -> bool:
    return _LETTER <= byte < _DELETE or chr(byte).isalpha()


def _is_empty_string(payload: bytes) -> bool:
    """Return True for an S7 STRING or WSTRING of length 0.

    Its maximum alone would read as a letter: 254 as `þ`. One ASCII letter or digit that is padded to exactly that
    length counts as text, unless old characters follow.
    """
    if len(payload) > 1 and payload[1] == 0:
        is_whole = len(payload) in {2, 2 + payload[0]}
        return is_whole and (any(payload[2:]) or not payload[:1].isalnum()) and not _utf16(payload)
    if len(payload) >= 2 * _WIDE and payload[2:4] == b"\0\0":
        maximum = int.from_bytes(payload[:2], "big")
        is_whole = len(payload) in {4, 4 + 2 * maximum}
        return is_whole and (any(payload[4:]) or not payload[1:2].isalnum())
    return False


def _is_counted_for_sure(payload: bytes) -> bool:
    """Return True where the first two bytes can only be the header of an S7 STRING."""
    maximum, length = payload[0], payload[1]
    if length < _LETTER:
        return not _is_laid_out(payload)
    if len(payload) != 2 + maximum:
        return False
    is_too_long = length <= maximum and len(payload.strip(_PADDING.encode())) > _LONGEST_TEXT
    return payload.find(0) == 2 + length or (is_too_long and not _is_laid_out(payload))


def _is_laid_out(payload: bytes) -> bool:
    """Return True for a JSON document over several lines, whose brace and line feed resemble a header."""
    if payload[:1] not in {b"{", b"["}:
        return False
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return True


def _s7_string(payload: bytes) -> str | None:
    if len(payload) < _WIDE:
        return None
    data = _counted(payload, 2, payload[0], payload[1], 1)
    if data is None or 0 in data:
        return None
    return _printable(_decoded(data, "utf-8") or data.decode("latin-1"))


def _s7_wstring(payload: bytes) -> str | None:
    if len(payload) < 2 * _WIDE:
        return None
    maximum, length = struct.unpack(">HH", payload[:4])
    data = _counted(payload, 4, maximum, length, _WIDE)
    if data is None:
        return None
    is_whole = len(payload) == 4 + 2 * maximum
    is_too_long = len(payload.strip(b"\0 ")) > 2 * _LONGEST_TEXT and maximum not in _BRACKETS
    ends = is_whole and (is_too_long or payload[4 + 2 * length :][:2] == b"\0\0")
    if length >= _LETTER and maximum < _BEYOND_ASCII and not ends:
        return None  # because these are two letters of UTF-16 text, not a header
    text = _decoded(data, "utf-16-be")
    return None if text is None or "\0" in text else _printable(text)


def _logix_string(payload: bytes) -> str | None:
    length = int.from_bytes(payload[:4], "little")
    data = payload[4 : 4 + length]
    if not data or len(data) != length or 0 in data:
        return None
    return _printable(_decoded(data, "utf-8") or data.decode("latin-1"))


def _counted(payload: bytes, start: int, maximum: int, length: int, width: int) -> bytes | None:
    """Return the counted bytes; None unless the length agrees with the header, or NUL pads it."""
    used, whole = start + length * width, start + maximum * width
    if not 0 < length <= maximum or len(payload) < used:
        return None
    if any(payload[whole if len(payload) >= whole else used :]):
        return None
    return payload[start:used]


def _marked_utf16(payload: bytes) -> str | None:
    return _printable(_before_nul(_decoded(payload[: len(payload) // 2 * 2], "utf-16")))


def _utf16(payload: bytes) -> str | None:
    """Decode UTF-16 without a byte order mark, up to its first NUL.

    Only Latin names are expected, so every other byte must be zero.
    """
    if len(payload) % 2:
        return None
    for zeros, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        high, low = payload[zeros::2], payload[1 - zeros :: 2]
        end = next((at for at, pair in enumerate(zip(high, low, strict=True)) if pair == (0, 0)), len(low))
        if end == 0 or any(high[:end]) or 0 in low[:end]:
            continue
        if end == 1 and not (low[:1].isalnum() and _may_be_left_over(payload)):
            return None
        return _printable(_decoded(payload[: 2 * end], encoding))
    return None


def _utf8(payload: bytes) -> str | None:
    text = _iec_string(payload)
    return None if text is None else _printable(_decoded(text, "utf-8-sig"))


def _latin1(payload: bytes) -> str | None:
    text = _iec_string(payload)
    return None if text is None else _printable(text.decode("latin-1"))


def _iec_string(payload: bytes) -> bytes | None:
    """Return the bytes before the first NUL; None where the bytes behind it are no text.

    An IEC STRING sent by SIZEOF still has the characters of a longer value behind its NUL.
    """
    text, nul, rest = payload.partition(b"\0")
    if nul and not (text and _may_be_left_over(rest) and (len(text) > 1 or text.isalnum())):
        return None
    return text


def _may_be_left_over(rest: bytes) -> bool:
    return all(byte == 0 or byte >= _LETTER or byte in b"\t\r\n" for byte in rest)


def _before_nul(text: str | None) -> str | None:
    return None if text is None else text.partition("\0")[0]


def _decoded(payload: bytes, encoding: str) -> str | None:
    try:
        return payload.decode(encoding)
    except UnicodeDecodeError:
        return None


def _printable(text: str | None) -> str | None:
    """Strip the padding; return None for an empty text or one with control characters."""
    if text is None:
        return None
    trimmed = text.strip(_PADDING)
    is_json = trimmed[:1] in {"{", "["}
    inner = trimmed.replace("\n", " ").replace("\r", " ").replace("\t", " ") if is_json else trimmed
    return trimmed if inner and inner.isprintable() else None
