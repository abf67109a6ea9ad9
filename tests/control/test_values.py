"""Whatever a PLC sends as a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.decoding.values import Value, ValueRefusedError, decode


@pytest.mark.parametrize(
    "payload",
    [
        b"bottle-500",
        b"  bottle-500\r\n",
        b"bottle-500" + bytes(22),
        b'"bottle-500"',
        b'{"value": "bottle-500"}',
        b'{\n  "value": "bottle-500"\n}',
        b"\xef\xbb\xbfbottle-500",
        bytes([254, 10]) + b"bottle-500" + bytes(244),
        bytes([254, 10]) + b"bottle-500",
        bytes([20, 10]) + b"bottle-500" + b"left overs",
        bytes([32, 10]) + b"bottle-500" + b"what stood before it..",
        "bottle-500".encode("utf-16"),
        "bottle-500".encode("utf-16-le"),
        "bottle-500".encode("utf-16-be"),
        "bottle-500".encode("utf-16-le") + bytes(8),
    ],
)
def test_one_product_in_every_dress(payload: bytes) -> None:
    assert decode(payload) == Value("bottle-500")


@pytest.mark.parametrize(
    "payload", [b"17", b"17.0", b'"17"', b'"17.0"', b'{"value":17}', b'{"value":17.00}', b"17\0\0"]
)
def test_a_register_is_its_text(payload: bytes) -> None:
    assert decode(payload) == Value("17")


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"true", "true"),
        (b"007", "007"),
        (b"-5", "-5"),
        (b"1.5", "1.5"),
        (b"A", "A"),
        ("Käse".encode(), "Käse"),
        ("Käse".encode("latin-1"), "Käse"),
        (b"x" * 64, "x" * 64),
        (b"0.50", "0.50"),
        (b'{"value": 1.50}', "1.50"),
        (b"4E10", "4E10"),
        (b"12e-3", "12e-3"),
        (b"1.700000E+01", "17"),
        (b"-17.00", "-17"),
        (b'"-17.0"', "-17"),
        (b'{"value": "bottle-500\\r\\n"}', "bottle-500"),
        (bytes([55, 0]) + bytes(52), "7"),
        (b"-", "-"),
    ],
)
def test_other_values(payload: bytes, text: str) -> None:
    assert decode(payload) == Value(text)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (bytes(4097), "too_large"),
        (bytes(8), "not_understood"),
        (b"   ", "not_understood"),
        (b"\x01\x02\x03", "not_understood"),
        (b"a\nb", "not_understood"),
        (b"x" * 65, "not_understood"),
        (b"NaN", "not_understood"),
        (b"-Infinity", "not_understood"),
        (b"1e400", "not_understood"),
        (b'{"value": NaN}', "not_understood"),
        (b"null", "not_understood"),
        (b"[1]", "not_understood"),
        (b"{broken", "not_understood"),
        (b'"open', "not_understood"),
        (b"[" * 4000, "not_understood"),
        (b'{"value":' * 400 + b"1" + b"}" * 400, "not_understood"),
        (b'{"values": 1}', "not_understood"),
        (b'{"value": {"value": 1}}', "not_understood"),
        (b'{"value": "\\u0007"}', "not_understood"),
        (b'{"value": 1, "id": 5}', "not_understood"),
        (b'{"value": 1, "at": "yesterday", "ttl_s": 3}', "not_understood"),
        (b"9" * 4000, "not_understood"),
        (bytes([254, 0]) + bytes(254), "not_understood"),
        (bytes([254, 0]) + b"bottle-500" + bytes(244), "not_understood"),
        (bytes([254, 0]), "not_understood"),
        (bytes([64, 0]) + bytes(64), "not_understood"),
        (bytes([32, 0]) + bytes(32), "not_understood"),
    ],
)
def test_refused_with_a_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(ValueRefusedError) as refused:
        decode(payload)
    assert refused.value.reason == reason


def test_an_empty_payload_is_no_command() -> None:
    assert decode(b"") is None


def test_an_object_carries_id_and_time_to_live() -> None:
    value = decode(b'{"value": "17", "id": "a1", "at": "2026-01-01T06:00:00Z", "ttl_s": 30}')
    assert value == Value("17", "a1", 1767247230.0)
    assert decode(b'{"value": "17", "ttl_s": 30}') == Value("17")


@pytest.mark.parametrize("fraction", ["5", "50", "500", "5000", "500000", "5000000", "500000000"])
def test_a_moment_may_have_any_number_of_digits(fraction: str) -> None:
    value = decode(b'{"value": 17, "at": "2026-01-01T06:00:00.%bZ", "ttl_s": 30}' % fraction.encode())
    assert value == Value("17", None, 1767247230.5)


@given(st.binary(max_size=300))
def test_never_another_exception(payload: bytes) -> None:
    try:
        value = decode(payload)
    except ValueRefusedError:
        return
    assert value is None or (1 <= len(value.text) <= 64 and value.text.isprintable())


@given(
    st.text(st.characters(codec="ascii", categories=["L", "Nd"], include_characters="-_./ "), min_size=1, max_size=30)
)
def test_an_s7_string_is_the_text_that_it_holds(text: str) -> None:
    data = text.encode()
    assert _outcome(bytes([254, len(data)]) + data + bytes(254 - len(data))) == _outcome(data)


def _outcome(payload: bytes) -> Value | str | None:
    try:
        return decode(payload)
    except ValueRefusedError as error:
        return error.reason


def test_a_short_json_document_over_several_lines_is_no_s7_string() -> None:
    document = b'{\n"value": "17", "comment": "%b"}'
    payload = document % (b"x" * (125 - len(document % b"")))
    assert (len(payload), payload[0], payload[1]) == (125, 123, 10), (
        "as an S7 STRING[123] of ten characters would begin"
    )
    assert decode(payload) == Value("17")
    assert decode(bytes([123, 10]) + b"bottle-500" + bytes(113)) == Value("bottle-500")
