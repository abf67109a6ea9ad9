"""Tensors of requests and answers, as both transports carry them: raw bytes, little-endian, in C order."""

import struct
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from agent.messages.web.requests import Datatype, Port, TensorAt
from agent.processes.slots.request_memory import BLOCK_BYTES, aligned
from agent.web.gateway.core.faults import RequestError, invalid

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
_NUMPY: Final = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"} | {
    f"{word}{8 * size}": f"<{letter}{size}" for word, letter in (("INT", "i"), ("UINT", "u")) for size in (1, 2, 4, 8)
}
BYTES: Final = "BYTES"
_MOST_SIDES: Final = 16
_LENGTH: Final = struct.Struct("<I")


class Tensor(NamedTuple):
    """One input or output."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview
    """Elements; each of BYTES has its length before it, as 4 bytes."""


def elements(shape: Iterable[int], name: str) -> int:
    """Return the number of elements of a request's shape. Raises RequestError("invalid") for an impossible one."""
    sides, count = list(shape), 1
    for side in sides:
        if side < 0:
            raise invalid(f"inputs: {name!r} has shape {sides}: a side is negative")
        count *= side
    if len(sides) > _MOST_SIDES or count > BLOCK_BYTES:
        raise RequestError("too_large", f"inputs: {name!r} has shape {sides[:_MOST_SIDES]}, which is too large")
    return count


def checked(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Tensor:
    """Return a tensor of a request. Raises RequestError that names it, where bytes and shape do not fit."""
    count = elements(shape, name)
    if datatype == BYTES:
        if len(split(raw, name)) != count:
            raise invalid(f"inputs: {name!r} has not the {count} elements of its shape")
    elif datatype not in SIZES:
        raise invalid(f"inputs: {name!r} has datatype {datatype[:32]!r}; there are {', '.join(SIZES)} and {BYTES}")
    elif len(raw) != count * SIZES[datatype]:
        expected = count * SIZES[datatype]
        raise invalid(f"inputs: {name!r} has {len(raw)} bytes, expected {expected} for {datatype} {list(shape)}")
    return Tensor(name, datatype, tuple(shape), raw)


def split(raw: bytes | memoryview, name: str) -> list[bytes]:
    """Return the elements of a BYTES tensor. Raises RequestError where their lengths do not fit."""
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        if at + _LENGTH.size > len(raw):
            raise invalid(f"inputs: {name!r} ends within an element's length")
        (size,) = _LENGTH.unpack_from(raw, at)
        at += _LENGTH.size
        if at + size > len(raw):
            raise invalid(f"inputs: {name!r} ends within an element")
        found.append(bytes(raw[at : at + size]))
        at += size
    return found


def joined(found: Iterable[bytes]) -> bytes:
    """Return elements of BYTES as a tensor has them."""
    return b"".join(part for one in found for part in (_LENGTH.pack(len(one)), one))


def of_numbers(name: str, datatype: str, shape: Sequence[int], data: Any) -> Tensor:  # noqa: ANN401 - JSON's own
    """Return the tensor of JSON numbers or texts, nested like the shape or flat. Raises RequestError("invalid")."""
    if datatype == BYTES:
        texts = [one.encode() if isinstance(one, str) else None for one in _flat(data)]
        if None in texts:
            raise invalid(f"inputs: {name!r} is {BYTES}: its data are texts")
        return checked(name, datatype, shape, joined(cast("list[bytes]", texts)))
    if datatype not in _NUMPY:
        raise invalid(f"inputs: {name!r} has datatype {datatype[:32]!r}, whose data must be binary, or is unknown")
    array = _array(name, datatype, data)
    return checked(name, datatype, shape, array.tobytes())


def to_numbers(tensor: Tensor) -> list[Any]:
    """Return a tensor's elements as flat JSON values. Raises RequestError for one that JSON cannot hold."""
    if tensor.datatype == BYTES:
        return [one.decode("utf-8", "replace") for one in split(tensor.raw, tensor.name)]
    return cast("list[Any]", as_array(tensor).ravel().tolist())


def as_array(tensor: Tensor) -> "NDArray[Any]":
    """Return a view of a tensor's elements. Raises RequestError("unsupported") where numpy has no such type."""
    import numpy as np  # noqa: PLC0415 - 12 MB that only a gateway in use needs

    kind = _NUMPY.get(tensor.datatype)
    if kind is None:
        raise RequestError("unsupported", f"{tensor.name!r} is {tensor.datatype}: ask for it as binary data")
    return np.frombuffer(tensor.raw, kind).reshape(tensor.shape)


def place(tensors: Iterable[Tensor], block: memoryview) -> tuple[TensorAt, ...]:
    """Write a request's inputs to a block. Raises RequestError where they do not fit, or no model takes such."""
    placed: list[TensorAt] = []
    offset = 0
    for one in tensors:
        if one.datatype not in _NUMPY:
            raise RequestError("unsupported", f"inputs: {one.name!r} is {one.datatype}, which no model here takes")
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
        raise invalid(f"inputs: {tensor.name!r} has datatype {tensor.datatype}, expected {port.datatype}")
    sides = zip(tensor.shape, port.shape, strict=False)
    if len(tensor.shape) != len(port.shape) or any(want not in {have, -1} for have, want in sides):
        raise invalid(f"inputs: {tensor.name!r} has shape {list(tensor.shape)}, expected {list(port.shape)}")


def _flat(data: Any) -> list[Any]:  # noqa: ANN401 - JSON's own
    if not isinstance(data, list):
        return [data]
    return [one for part in data for one in (_flat(part) if isinstance(part, list) else [part])]


def _array(name: str, datatype: str, data: Any) -> "NDArray[Any]":  # noqa: ANN401 - JSON's own
    """Return JSON numbers as an array, none of them changed but by rounding of floats."""
    import numpy as np  # noqa: PLC0415 - as above

    try:
        array = np.array(data)
        is_float, kinds = datatype.startswith("FP"), {"BOOL": "b", "FP": "iuf"}
        allowed = kinds.get("FP" if is_float else datatype, "iu")
        if array.size and array.dtype.kind not in allowed:
            raise invalid(f"inputs: {name!r} is {datatype}: data holds other values, or lists of different lengths")
        wanted = np.dtype(_NUMPY[datatype])
        if array.size and not is_float and datatype != "BOOL":
            limits = np.iinfo(wanted)
            if int(array.min()) < limits.min or int(array.max()) > limits.max:
                raise invalid(f"inputs: {name!r} holds numbers that {datatype} cannot hold")
        return array.astype(wanted)
    except (ValueError, OverflowError, TypeError, RecursionError):
        raise invalid(f"inputs: {name!r} has data that are no numbers, or lists of different lengths") from None
