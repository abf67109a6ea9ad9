"""Tensors of requests are what they say, or are refused by name."""

import tracemalloc
from contextlib import suppress

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.messages.web import byte_elements
from agent.messages.web.requests import Port, Signature
from agent.processes.slots.request_memory import BLOCK_BYTES
from agent.web.gateway.core import json_data, service, tensors
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.rest.answers import inferred
from agent.web.gateway.rest.infer_body import parse


def of_json(name: str, datatype: str, shape: list[int], data: object) -> tensors.Tensor:
    return json_data.of_text(name, datatype, shape, msgspec.json.encode(data))


@pytest.mark.parametrize("datatype", [kind for kind in tensors.SIZES if kind not in {"BF16", "BOOL"}])
def test_numbers_come_back_as_they_were(datatype: str) -> None:
    made = of_json("x", datatype, [2, 2], [[1, 2], [3, 4]])
    assert json_data.to_values(made) == [1, 2, 3, 4]
    assert len(made.raw) == 4 * tensors.SIZES[datatype]


def test_truths_and_texts_come_back_as_they_were() -> None:
    assert json_data.to_values(of_json("x", "BOOL", [2], [True, False])) == [True, False]
    assert json_data.to_values(of_json("x", "BYTES", [2], ["a", "ü"])) == ["a", "ü"]


@pytest.mark.parametrize(
    ("datatype", "shape", "data"),
    [
        ("INT8", [1], [200]),
        ("UINT8", [1], [-1]),
        ("INT32", [1], [1.0]),
        ("INT32", [1], [True]),
        ("BOOL", [1], [1]),
        ("FP32", [2], [1]),
        ("FP32", [1], ["1"]),
        ("FP32", [1], [None]),
        ("FP32", [2], [1, [2]]),
        ("BF16", [1], [1]),
        ("BYTES", [1], [1]),
        ("FP99", [1], [1]),
        ("FP32", [-1], [1]),
        ("FP32", [1] * 17, [1]),
        ("FP32", [1 << 40], [1]),
    ],
)
def test_what_does_not_fit_is_refused_by_name(datatype: str, shape: list[int], data: list[object]) -> None:
    with pytest.raises(RequestError, match="'x'"):
        of_json("x", datatype, tensors_shape(shape), data)


def tensors_shape(shape: list[int]) -> list[int]:
    tensors.elements(shape, "x", "FP32")
    return shape


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_elements_of_bytes_are_split_as_they_were_joined(found: list[bytes]) -> None:
    assert tensors.split(byte_elements.joined(found), "x") == found


@given(st.binary(max_size=64))
def test_bytes_of_any_kind_are_split_or_refused(raw: bytes) -> None:
    with suppress(RequestError):
        assert byte_elements.joined(tensors.split(raw, "x")) == raw


@given(st.binary(max_size=256), st.none() | st.text(max_size=6))
def test_a_body_of_any_bytes_is_parsed_or_refused(content: bytes, length: str | None) -> None:
    with suppress(RequestError):  # and no other exception
        parse(content, length)


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"inputs":' * 50_000, "{}", "null", '{"inputs":[1]}', '{"inputs":{}}']
)
def test_a_body_of_any_depth_is_refused(text: str) -> None:
    with pytest.raises(RequestError):
        parse(text.encode(), None)


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "expected"),
    [
        ("FP32", (1, -1), bytes(32), (1, 8)),
        ("FP32", (2, 4), bytes(32), (2, 4)),
        ("UINT8", (-1,), b"abc", (3,)),
        ("BYTES", (1,), b"427", (1,)),
        ("BYTES", (1, -1), b"", (1, 1)),
    ],
)
def test_a_body_without_json_is_the_only_input(
    datatype: str, shape: tuple[int, ...], raw: bytes, expected: tuple[int, ...]
) -> None:
    made = tensors.of_raw((Port("x", datatype, shape),), raw, "m:n")
    assert made.shape == expected
    assert tensors.split(made.raw, "x") == [raw] if datatype == "BYTES" else made.raw == raw


@pytest.mark.parametrize(
    ("ports", "words"),
    [
        ((Port("x", "FP32", (-1, -1)),), "more than one variable-sized"),
        ((Port("x", "FP32", (3, -1)),), "has 32 bytes"),
        ((Port("x", "FP32", (0, -1)),), "'x'"),
        ((Port("x", "BYTES", (2,)),), r"must have input shape \[1\]"),
        ((Port("x", "FP32", (8,)), Port("y", "FP32", (8,))), "got 2 inputs in m:n"),
        ((), "got 0 inputs"),
    ],
)
def test_a_body_without_json_that_leaves_the_shape_open_is_refused(ports: tuple[Port, ...], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        tensors.of_raw(ports, bytes(32), "m:n")


@pytest.mark.parametrize("datatype", ["BYTES", "INT64"])
def test_lists_of_one_list_are_taken_to_a_depth_of_100(datatype: str) -> None:
    def nested(depth: int) -> object:
        value: object = "a" if datatype == "BYTES" else 7
        for _ in range(depth):
            value = [value]
        return value

    assert of_json("x", datatype, [1, 1], nested(50)).shape == (1, 1)
    for depth in (101, 900):
        with pytest.raises(RequestError, match="JSON nesting depth exceeds"):
            of_json("x", datatype, [1, 1], nested(depth))


def test_lists_of_two_lists_are_refused_at_any_depth() -> None:
    data: list[object] = []
    for _ in range(900):
        data = ["a", data]
    with pytest.raises(RequestError, match="has not the 900 elements"):
        of_json("x", "BYTES", [900], data)


@pytest.mark.parametrize(
    ("shape", "words"),
    [([16, 2**60 + 2], "total element count"), ([4, 2**60 + 2], "byte size overflow"), ([2, -5], "negative")],
)
def test_a_shape_beyond_all_numbers_is_refused(shape: list[int], words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        tensors.elements(shape, "x", "FP32")
    assert refused.value.kind == "invalid"


def test_elements_beyond_what_memory_can_hold_are_refused() -> None:
    with pytest.raises(RequestError, match="more than 65536 elements"):
        tensors.split(bytes(4 * 65_537), "x")


def test_inputs_lie_one_behind_the_other_in_a_block() -> None:
    block = memoryview(bytearray(BLOCK_BYTES))
    inputs = [of_json("a", "INT8", [3], [1, 2, 3]), of_json("b", "FP32", [2], [4, 5])]
    placed = tensors.place(inputs, block)
    assert [(one.name, one.offset, one.bytes) for one in placed] == [("a", 0, 3), ("b", 64, 8)]
    assert np.frombuffer(block, np.float32, 2, 64).tolist() == [4, 5]
    with pytest.raises(RequestError) as refused:
        tensors.place([tensors.Tensor("a", "UINT8", (BLOCK_BYTES + 1,), memoryview(bytes(BLOCK_BYTES + 1)))], block)
    assert refused.value.kind == "too_large"


@pytest.mark.parametrize("data", ["[]", "{}", '""', "1.5", "[[]]", "[1,2]"])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES", "INT64", "BOOL"])
@pytest.mark.parametrize("shape", [[1], [900_000], [1, 65_536]])
def test_json_data_take_memory_in_proportion_to_their_text(data: str, datatype: str, shape: list[int]) -> None:
    many = ",".join([data] * (3_600_000 // (len(data) + 1)))
    row = '{"name":"x","shape":%s,"datatype":"%s","data":[%s]}' % (shape, datatype, many)  # noqa: UP031
    content = ('{"inputs":[%s]}' % row).encode()  # noqa: UP031
    tracemalloc.start()
    try:
        with suppress(RequestError):
            parse(content, None)
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content)
    finally:
        tracemalloc.stop()


def test_json_of_more_than_4_mib_is_refused_and_the_same_bytes_as_binary_data_are_not() -> None:
    head = b'{"inputs":[{"name":"x","shape":[5242880],"datatype":"UINT8",%s}]}'
    with pytest.raises(RequestError, match="as binary data") as refused:
        parse(head % (b'"data":[%s]' % b",".join([b"1"] * 5_242_880)), None)
    assert refused.value.kind == "too_large"
    text = head % b'"parameters":{"binary_data_size":5242880}'
    assert len(parse(text + bytes(5_242_880), str(len(text))).inputs[0].raw) == 5_242_880


def test_outputs_of_more_than_4_mib_are_refused_as_json() -> None:
    large = tensors.Tensor("y", "FP32", (1 << 20 | 1,), bytes(4 << 20 | 4))
    with pytest.raises(RequestError, match=r"'y'.* as binary data"):
        inferred({}, [large], frozenset())
    assert inferred({}, [large], frozenset(["y"])).status_code == 200


@pytest.mark.parametrize("datatype", ["FP16", "FP32", "FP64"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_output_that_json_cannot_hold_is_refused_by_name(datatype: str, value: float) -> None:
    raw = np.array([value], f"<f{tensors.SIZES[datatype]}").tobytes()
    with pytest.raises(RequestError, match="'y' holds NaN or infinity"):
        inferred({}, [tensors.Tensor("y", datatype, (1,), raw)], frozenset())


@pytest.mark.parametrize(("datatype", "number"), [("FP32", 1e39), ("FP16", 70_000), ("FP32", -(10**39))])
def test_a_number_beyond_its_datatype_is_refused(datatype: str, number: float) -> None:
    with pytest.raises(RequestError, match=f"numbers that {datatype} cannot hold"):
        of_json("x", datatype, [1], [number])


@pytest.mark.parametrize("data", [[2**64 - 1, 1], [0, 2**63]])
def test_large_numbers_of_uint64_are_themselves(data: list[int]) -> None:
    for made in (of_json("x", "UINT64", [2], data), tensors.of_numbers("x", "UINT64", [2], data)):
        assert json_data.to_values(made) == data


@pytest.mark.parametrize("data", [[2**64, 1], [2**63, -1], [10**30, 0]])
@pytest.mark.parametrize("datatype", ["UINT64", "INT64"])
def test_numbers_beyond_64_bits_are_refused(data: list[int], datatype: str) -> None:
    with pytest.raises(RequestError, match=r"cannot hold|out of range"):
        json_data.of_text("x", datatype, [2], str(data).encode())


@pytest.mark.parametrize("length", ["9" * 5000, "9" * 11, "-1", "x", ""])
def test_a_length_of_any_digits_is_refused(length: str) -> None:
    with pytest.raises(RequestError, match="Inference-Header-Content-Length"):
        parse(b"{}", length)


@pytest.mark.parametrize("part", ['"shape":[-1],"data":[1]', '"shape":[1],"data":[1,2]', '"shape":[1]'])
def test_a_long_name_is_cut_in_what_refuses_it(part: str) -> None:
    with pytest.raises(RequestError) as refused:
        parse(b'{"inputs":[{"name":"%s","datatype":"FP32",%s}]}' % (b"a" * 1_000_000, part.encode()), None)
    assert len(str(refused.value)) < 300


@given(st.recursive(st.integers(0, 9), lambda part: st.lists(part, max_size=3), max_leaves=12))
def test_nested_lists_are_taken_where_numpy_takes_them(data: object) -> None:
    try:
        expected = np.array(data, np.int64)
    except ValueError:
        with pytest.raises(RequestError):
            of_json("x", "INT64", [len(msgspec.json.encode(data).translate(None, b"[],"))], data)
        return
    assert json_data.to_values(of_json("x", "INT64", [expected.size], data)) == expected.ravel().tolist()


@given(st.lists(st.text(max_size=8), max_size=6))
def test_texts_of_any_kind_come_back_from_json(found: list[str]) -> None:
    assert json_data.to_values(of_json("x", "BYTES", [len(found)], found)) == found


def test_a_request_beyond_the_models_bound_is_refused_by_name_before_it_has_a_block() -> None:
    ports = (Port("ids", "INT64", (-1, -1)), Port("mask", "INT64", (-1, -1)))
    signature = Signature("openvino_cpu", is_detector=False, inputs=ports, outputs=(), most_open=1024)
    for length, is_refused in ((512, False), (513, True)):
        inputs = [tensors.Tensor(port.name, "INT64", (2, length), bytes(16 * length)) for port in ports]
        if not is_refused:
            service._require_fitting(inputs, signature)
            continue
        with pytest.raises(
            RequestError, match=r"inputs: 'ids' is too large: .* 1026 elements .* 1024 at most"
        ) as refused:
            service._require_fitting(inputs, signature)
        assert refused.value.kind == "invalid"
