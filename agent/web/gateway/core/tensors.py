"""Tensors of requests and answers, as both transports carry them: raw bytes, little-endian, in C order."""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, cast

from agent.messages.web import byte_elements
from agent.messages.web.open_sides import OPEN
from agent.messages.web.requests import Datatype, Port, TensorAt
from agent.processes.slots.request_memory import BLOCK_BYTES, aligned
from agent.web.gateway.core.faults import RequestError, invalid

SIZES: Final = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
}
"""Bytes of an element; those of BYTES differ."""
_LETTERS: Final = {"BOOL": "?", "FP16": "e", "FP32": "f", "FP64": "d"} | {
    f"{word}{bits}": letter
    for word, letters in (("INT", "bhiq"), ("UINT", "BHIQ"))
    for bits, letter in zip((8, 16, 32, 64), letters, strict=True)
}
"""Of `struct`, which packs numbers without the 14 MB of numpy."""
BYTES: Final = "BYTES"
_MOST_SIDES: Final = 16
_LARGEST: Final = 2**63 - 1


class Tensor(NamedTuple):
    """One input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview
    """Elements; each of BYTES has its length before it, as 4 bytes."""


def elements(shape: Iterable[int], name: str, datatype: str) -> int:
    """Return the number of elements of a request's shape. Raises RequestError("invalid") for an impossible one."""
    sides, count = list(shape), 1
    for side in sides:
        if side < 0:
            raise invalid(f"inputs: {shown(name)} has shape {sides[:_MOST_SIDES]}: a side is negative")
        count *= side
    start = sides[:_MOST_SIDES]
    if count > _LARGEST:
        why = f"causes total element count to exceed maximum size of {_LARGEST}"
        raise invalid(f"inputs: {shown(name)}: shape {start} {why}")
    if count * SIZES.get(datatype, 1) > _LARGEST:
        raise invalid(f"inputs: byte size overflow for input {shown(name)} of shape {start}")
    if len(sides) > _MOST_SIDES or count > BLOCK_BYTES:
        raise RequestError("too_large", f"inputs: {shown(name)} has shape {start}, which is too large")
    return count


def checked(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """Return a tensor of a request. Raises RequestError that names it, where bytes and shape do not fit."""
    count = elements(shape, name, datatype)
    if datatype == BYTES:
        if len(split(raw, name)) != count:
            raise invalid(f"inputs: {shown(name)} has not the {count} elements of its shape")
    elif datatype not in SIZES:
        raise invalid(f"inputs: {shown(name)} has datatype {datatype[:32]!r}; there are {', '.join(SIZES)} and {BYTES}")
    elif len(raw) != count * SIZES[datatype]:
        expected = count * SIZES[datatype]
        raise invalid(f"inputs: {shown(name)} has {len(raw)} bytes, expected {expected} for {datatype} {list(shape)}")
    return Tensor(name, datatype, tuple(shape), raw)


def split(raw: bytes | memoryview, name: str) -> list[bytes]:
    """Return the elements of a BYTES tensor. Raises RequestError where their lengths do not fit."""
    try:
        return byte_elements.split(raw)
    except ValueError as error:
        raise invalid(f"inputs: {shown(name)} {error}") from None


def of_raw(ports: tuple[Port, ...], raw: bytes, model: str) -> Tensor:
    """Return the input of a body without JSON: the elements of a model's only input, or the text of one element.

    Raises RequestError where ports and bytes leave its shape open. The refusals are in Triton's words, which its
    clients look for.
    """
    if len(ports) != 1:
        count = len(ports)
        raise invalid(f"Raw request must only have 1 input (found 1) to be deduced but got {count} inputs in {model}")
    (port,) = ports
    if port.datatype == BYTES:
        if any(side not in {1, OPEN} for side in port.shape) or port.shape.count(OPEN) > 1:
            raise invalid(f"For BYTE datatype raw input {port.name!r}, the model must have input shape [1]")
        return Tensor(port.name, BYTES, (1,) * len(port.shape), byte_elements.joined((raw,)))
    if port.shape.count(OPEN) > 1:
        why = "can not be deduced because there are more than one variable-sized dimension"
        raise invalid(f"The shape of the raw input {port.name!r} {why}: {list(port.shape)}")
    closed = math.prod(side for side in port.shape if side != OPEN) * SIZES.get(port.datatype, 1)
    shape = [len(raw) // closed if side == OPEN else side for side in port.shape] if closed else list(port.shape)
    return checked(port.name, port.datatype, shape, raw)


def of_numbers(name: str, datatype: str, shape: Sequence[int], numbers: Sequence[Any]) -> Tensor:
    """Return the tensor of flat numbers of its kind. Raises RequestError("invalid")."""
    require_typed(name, datatype)
    return checked(name, datatype, shape, packed(name, datatype, numbers))


def require_typed(name: str, datatype: str) -> None:
    """Raise RequestError("invalid") where numbers of a datatype cannot be given one by one."""
    if datatype not in _LETTERS:
        raise invalid(f"inputs: {shown(name)} has datatype {datatype[:32]!r}, whose data must be binary, or is unknown")


def packed(name: str, datatype: str, numbers: Sequence[Any]) -> bytes:
    """Return the elements of numbers, floats rounded. Raises RequestError("invalid")."""
    try:
        return struct.pack(f"<{len(numbers)}{_LETTERS[datatype]}", *numbers)
    except (struct.error, OverflowError):
        raise beyond(name, datatype) from None


def beyond(name: str, datatype: str) -> RequestError:
    """Return the refusal of an input that holds numbers beyond its datatype's."""
    return invalid(f"inputs: {shown(name)} holds numbers that {datatype} cannot hold")


def shown(name: str) -> str:
    """Return a tensor's name as messages have it: quoted, and never as long as a client may send it."""
    return repr(name[:64])


def values_of(tensor: Tensor) -> list[Any]:
    """Return a tensor's elements as Python's. Raises RequestError("unsupported") for a datatype without such."""
    letter = _LETTERS.get(tensor.datatype)
    if letter is None:
        raise RequestError("unsupported", f"{shown(tensor.name)} is {tensor.datatype[:32]}: ask for it as binary data")
    return list(struct.unpack(f"<{len(tensor.raw) // SIZES[tensor.datatype]}{letter}", tensor.raw))


def place(tensors: Iterable[Tensor], block: memoryview) -> tuple[TensorAt, ...]:
    """Write a request's inputs to a block. Raises RequestError where they do not fit, or no model takes such."""
    placed: list[TensorAt] = []
    offset = 0
    for one in tensors:
        if one.datatype not in _LETTERS and one.datatype != BYTES:
            raise RequestError("unsupported", f"inputs: {shown(one.name)} is {one.datatype}, which no model here takes")
        size = len(one.raw)
        if offset + size > BLOCK_BYTES:
            raise RequestError("too_large", f"inputs: together they take more than {BLOCK_BYTES >> 20} MiB")
        block[offset : offset + size] = one.raw
        placed.append(TensorAt(one.name, cast("Datatype", one.datatype), one.shape, offset, size))
        offset += aligned(size)
    return tuple(placed)


def take(outputs: Iterable[TensorAt], block: memoryview) -> list[Tensor]:
    """Copy a worker's outputs out of a block."""
    return [
        Tensor(one.name, one.datatype, one.shape, bytes(block[one.offset : one.offset + one.bytes])) for one in outputs
    ]


def require_fitting(tensor: Tensor, port: Port) -> None:
    """Raise RequestError("invalid") where an input has another datatype or shape than its port, -1 being open."""
    if tensor.datatype != port.datatype:
        raise invalid(f"inputs: {shown(tensor.name)} has datatype {tensor.datatype[:32]}, expected {port.datatype}")
    sides = zip(tensor.shape, port.shape, strict=False)
    if len(tensor.shape) != len(port.shape) or any(want not in {have, OPEN} for have, want in sides):
        raise invalid(f"inputs: {shown(tensor.name)} has shape {list(tensor.shape)}, expected {list(port.shape)}")
