"""Strings as controllers keep them in memory are products; numbers in binary never are."""

import struct
from collections.abc import Callable

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.control.decoding.values import Value, ValueRefusedError, decode
from agent.settings.fields import canonical_product

_TEXT = st.text(st.characters(codec="ascii", categories=["L", "Nd"], include_characters="-_."), min_size=1, max_size=30)
_OLD = st.text(st.characters(codec="ascii", categories=["L", "Nd"], include_characters="-_. "), max_size=80)
_BEFORE = b"bottle-500-long"


def _iec(text: str, size: int, before: bytes = b"") -> bytes:
    """Return STRING[size] as SIZEOF takes it: writing a shorter text leaves the characters of the one before."""
    memory = bytearray(before.ljust(size + 1, b"\0"))
    data = text.encode("latin-1") + b"\0"
    memory[: len(data)] = data
    return bytes(memory)


def _wide(text: str, size: int, before: str = "", *, encoding: str = "utf-16-le") -> bytes:
    memory = bytearray(before.encode(encoding).ljust(2 * size + 2, b"\0"))
    data = (text + "\0").encode(encoding)
    memory[: len(data)] = data
    return bytes(memory)


def _s7_string(text: str, size: int, before: bytes = b"") -> bytes:
    memory = bytearray(before[:size].ljust(size, b"\0"))
    memory[: len(text)] = text.encode("latin-1")
    return bytes([size, len(text)]) + bytes(memory)


def _s7_wstring(text: str, size: int, before: str = "") -> bytes:
    memory = bytearray(before[:size].encode("utf-16-be").ljust(2 * size, b"\0"))
    data = text.encode("utf-16-be")
    memory[: len(data)] = data
    return struct.pack(">HH", size, len(text)) + bytes(memory)


def _logix(text: str, size: int = 82, before: bytes = b"") -> bytes:
    memory = bytearray(before[:size].ljust(size, b"\0"))
    memory[: len(text)] = text.encode("latin-1")
    data = struct.pack("<i", len(text)) + bytes(memory)
    return data + bytes(-len(data) % 4)


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (_iec("can", 20, _BEFORE), "can"),
        (_iec("can", 80, _BEFORE), "can"),
        (_iec("can", 3), "can"),
        (_iec("7", 20, _BEFORE), "7"),
        (_iec("7", 20), "7"),
        (b"can\0old..", "can"),
        (b"1\0old characters", "1"),
        (_iec("17", 3), "17"),
        (_iec("Käse", 20, _BEFORE), "Käse"),
        (_wide("can", 20, "bottle-500-long"), "can"),
        (_wide("can", 20, "bottle-500-long", encoding="utf-16-be"), "can"),
        (_wide("17", 1 + 2), "17"),
        (b"\xff\xfe" + _wide("can", 20, "bottle-500-long"), "can"),
        (_s7_wstring("can", 254), "can"),
        (_s7_wstring("can", 254)[: 4 + 2 * 3], "can"),
        (_s7_wstring("Käse Ω", 20, "what stood here before"), "Käse Ω"),
        (_s7_wstring("продукт", 254), "продукт"),
        (_s7_wstring("x" * 40, 254), "x" * 40),
        (_s7_wstring("x" * 40, 80), "x" * 40),
        (_s7_wstring("can", 20) + bytes(84), "can"),
        (_s7_string("can", 254, _BEFORE), "can"),
        (_s7_string("x" * 40, 254), "x" * 40),
        (_s7_string("x" * 40, 80), "x" * 40),
        (_s7_string("can", 20, _BEFORE) + bytes(42), "can"),
        (_s7_string("x" * 40, 80, b"y" * 80), "x" * 40),
        (_s7_string("x" * 63, 63), "x" * 63),
        (_s7_string("x" * 34, 123, b"y" * 200), "x" * 34),
        (_s7_wstring("x" * 40, 80, "y" * 80), "x" * 40),
        (_s7_string("17", 10)[:4], "17"),
        (_iec("1", 7, b" " * 7), "1"),
        (_s7_string("17", 9)[:4] + bytes(4), "17"),
        (_logix("can"), "can"),
        (_logix("can", 82, _BEFORE), "can"),
        (_logix("can", 20)[: 4 + 3], "can"),
        (_logix("Käse", 20), "Käse"),
        (_logix("x" * 50), "x" * 50),
        (_logix('{"value": "can"}'), "can"),
    ],
)
def test_a_string_as_it_is_in_memory(payload: bytes, text: str) -> None:
    assert decode(payload) == Value(text)


@given(_TEXT, _OLD, st.integers(30, 300))
def test_no_form_depends_on_what_stood_there_before(text: str, before: str, size: int) -> None:
    # one sign alone may be the maximum of an empty string, a letter only of just that length before old characters;
    # one old character after one makes a text in UTF-16
    assume(len(text) > 1 or (text.isalnum() and len(before) != 3 and ord(text) != size - 1))
    assume(not _refused(text.encode()))  # such as NaN and 1.0E999
    canonical = decode(text.encode())
    old = before.encode()
    forms: list[bytes] = [
        _iec(text, size, old),
        _wide(text, size, before if len(text) > 1 else ""),  # the DINT 49 and further fields look the same
        _s7_wstring(text, size, before),
        _logix(text, size, old),
        _s7_string(text, min(size, 254), old) if len(text) < 32 else text.encode(),
    ]
    for payload in forms:
        assert decode(payload) == canonical, payload


@pytest.mark.parametrize(
    "payload",
    [
        _s7_string("", 254, _BEFORE),
        _s7_string("", 80, _BEFORE),
        _s7_wstring("", 254),
        _s7_wstring("", 254, "bottle-500-long"),
        _s7_wstring("", 254)[:4],
        _s7_wstring("", 80, "bottle-500-long"),
        _logix("", 82, _BEFORE),
        _iec("", 20, _BEFORE),
        _wide("", 20, "xbottle-500-long"),
        b"\0can",
        b"can\0\x01\x02\x03\x04\x05",
        struct.pack("<iihh", 65, 2, 3, 4),
    ],
)
def test_no_character_is_no_product(payload: bytes) -> None:
    assert _refused(payload)


@pytest.mark.parametrize(
    "payload",
    [
        struct.pack("<ii", 49, 100),
        struct.pack("<if", 49, 1.0),
        struct.pack("<if", 49, 100.0),
        struct.pack("<ihh", 49, 33, 33),
        struct.pack("<iii", 49, 33, 40),
        struct.pack("<iiii", 49, 33, 40, 50),
    ],
)
def test_a_dint_with_further_fields_is_no_text(payload: bytes) -> None:
    assert _refused(payload)


@pytest.mark.parametrize("length", [*range(4, 128), 200])
def test_a_logix_string_whose_length_does_not_fit_is_refused(length: int) -> None:
    """The length counts NUL padding, or is larger than the data."""
    assert _refused(struct.pack("<i", length) + b"can".ljust(82, b"\0"))
    assert _refused(struct.pack("<i", length) + b"can")
    assert _refused(struct.pack("<i", length + 1) + b"x" * length)


@pytest.mark.parametrize(
    "payload",
    [
        "can".encode("utf-32-le"),
        "can".encode("utf-32-be"),
        "17".encode("utf-32-le"),
        "K\u20ac".encode("utf-16-le"),
        "K\u20ac".encode("utf-16-be"),
        "AK\u20ac".encode("utf-16-le"),
        "K\u20acx".encode("utf-16-le").ljust(42, b"\0"),
        "K中".encode("utf-16-le"),
        "K一".encode("utf-16-le"),
        "AK中".encode("utf-16-le"),
        "7型号".encode("utf-16-le"),
        *(_wide(text, 20) for text in ("K型", "K一", "A7号", "1箱中", "K한글")),
    ],
)
def test_no_first_letter_is_taken_for_a_wide_text(payload: bytes) -> None:
    assert _refused(payload)


_ENCODERS: dict[str, Callable[[int], bytes]] = {
    form: lambda number, form=form: struct.pack(form, number)  # type: ignore[misc]
    for form in ("<h", ">h", "<i", ">i", "<q", ">q", "<H", ">H", "<I", ">I", "<Q", ">Q", "<f", ">f", "<d", ">d")
}


@pytest.mark.parametrize("form", _ENCODERS)
def test_a_number_in_binary_is_no_text(form: str) -> None:
    lowest = 0 if form[1].isupper() else -255
    taken = [number for number in range(lowest, 9999) if not _refused(_ENCODERS[form](number))]
    if form[1] in "hH":
        taken = [number for number in taken if 0 not in _ENCODERS[form](number)]
        assert all(_ENCODERS[form](number).decode("latin-1").strip().isprintable() for number in taken)
        taken = [number for number in taken if number < 256]
    assert taken == []


@pytest.mark.parametrize(
    "payload",
    [
        *(struct.pack(form, number) for number in (12553, 12554, 12557) for form in ("<h", "<i", "<q")),
        *(struct.pack(form, 12576) for form in ("<i", "<q")),
        *(
            struct.pack(form, number)
            for number in (10_001, 17_017, 99_996, 99_999)
            for form in ("<f", ">f", "<d", ">d")
        ),
        *(struct.pack(form, number) for number in (-99_999, -1_000_000) for form in ("<q", ">q")),
    ],
)
def test_a_number_that_a_line_feed_or_an_umlaut_would_make_a_text_is_none(payload: bytes) -> None:
    assert _refused(payload)


@pytest.mark.parametrize("text", ["Käse", "Jörg", "Jörn", "Hölz", "Müll", "Größe", "Fräs", "Gerät-9"])
def test_no_number_is_seen_in_a_text_of_latin_1(text: str) -> None:
    for payload in (text.encode("latin-1"), *(_iec(text, size) for size in range(len(text), 20))):
        assert decode(payload) == Value(text), payload


def test_a_document_as_long_as_its_first_letter_says_is_a_document() -> None:
    document = b'{ "value": "17", "id": "a1", "more": "'
    document += b"x" * (2 + ord("{") - len(document) - 2) + b'"}'
    for payload in (document, document.decode().encode("utf-16-be")):
        assert decode(payload) == Value("17", "a1")


def test_a_text_of_four_bytes_without_a_nul_is_a_text() -> None:
    assert decode(b"book") == Value("book")
    assert decode(b"49") == Value("49")
    assert decode(b"17\0\0") == Value("17")
    assert decode(b"can\0") == Value("can")


def test_the_answer_says_what_to_send_instead() -> None:
    with pytest.raises(ValueRefusedError, match="number in binary"):
        decode(struct.pack(">i", 49))


@pytest.mark.parametrize(
    "text",
    [
        "+17",
        "+17.0",
        "+00017",
        "   +17",
        "+17   ",
        "+1.700000e+01",
        "+1.7000000E+01",
        "1.7E+01",
        "1.7e1",
        "17.E0",
        ".17E+02",
        "+0.17e+02",
        "  1.700000E+001  ",
        "+1,700000E+01",
        '"+17"',
        '"+1.700000e+01"',
        '{"value": "+17"}',
        '{"value": 1.7e+01}',
    ],
)
def test_a_number_as_controllers_write_it(text: str) -> None:
    payload = text.encode()
    assert decode(payload) == Value("17")
    assert decode(payload + b"\0") == Value("17")
    assert decode(_s7_string(text, 30)) == Value("17")
    if not text.startswith(('"', "{")):
        assert canonical_product(text) == "17", "as a key of the configuration"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+1.5", "1.5"),
        ("+0.50", "0.50"),
        ("+1.250000e+00", "1.25"),
        ("-1.700000E+01", "-17"),
        ("007", "007"),
        ("4E10", "4E10"),
        ("+", "+"),
        ("+a", "+a"),
        ("1+1", "1+1"),
        ("+0", "0"),
    ],
)
def test_other_texts_with_signs_and_points(text: str, value: str) -> None:
    assert decode(text.encode()) == Value(value)


def test_a_real_beyond_all_bounds_is_refused() -> None:
    assert _refused(b"+1.700000e+999")


def _refused(payload: bytes) -> bool:
    try:
        decode(payload)
    except ValueRefusedError as error:
        return error.reason == "not_understood"
    return False
