"""Tensors of requests are what they say, or are refused by name."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.processes.slots.request_memory import BLOCK_BYTES
from agent.web.gateway.core import tensors
from agent.web.gateway.core.faults import RequestError
from agent.web.gateway.rest.infer_body import parse


@pytest.mark.parametrize("datatype", [kind for kind in tensors.SIZES if kind not in {"BF16", "BOOL"}])
def test_numbers_come_back_as_they_were(datatype: str) -> None:
    made = tensors.of_numbers("x", datatype, [2, 2], [[1, 2], [3, 4]])
    assert tensors.to_numbers(made) == [1, 2, 3, 4]
    assert len(made.raw) == 4 * tensors.SIZES[datatype]


def test_truths_and_texts_come_back_as_they_were() -> None:
    assert tensors.to_numbers(tensors.of_numbers("x", "BOOL", [2], [True, False])) == [True, False]
    assert tensors.to_numbers(tensors.of_numbers("x", "BYTES", [2], ["a", "ü"])) == ["a", "ü"]


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
        tensors.of_numbers("x", datatype, tensors_shape(shape), data)


def tensors_shape(shape: list[int]) -> list[int]:
    tensors.elements(shape, "x")
    return shape


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_elements_of_bytes_are_split_as_they_were_joined(found: list[bytes]) -> None:
    assert tensors.split(tensors.joined(found), "x") == found


@given(st.binary(max_size=64))
def test_bytes_of_any_kind_are_split_or_refused(raw: bytes) -> None:
    with suppress(RequestError):
        assert tensors.joined(tensors.split(raw, "x")) == raw


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


def test_inputs_lie_one_behind_the_other_in_a_block() -> None:
    block = memoryview(bytearray(BLOCK_BYTES))
    inputs = [tensors.of_numbers("a", "INT8", [3], [1, 2, 3]), tensors.of_numbers("b", "FP32", [2], [4, 5])]
    placed = tensors.place(inputs, block)
    assert [(one.name, one.offset, one.bytes) for one in placed] == [("a", 0, 3), ("b", 64, 8)]
    assert np.frombuffer(block, np.float32, 2, 64).tolist() == [4, 5]
    with pytest.raises(RequestError) as refused:
        tensors.place([tensors.Tensor("a", "UINT8", (BLOCK_BYTES + 1,), memoryview(bytes(BLOCK_BYTES + 1)))], block)
    assert refused.value.kind == "too_large"
