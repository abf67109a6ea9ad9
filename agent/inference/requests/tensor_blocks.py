"""Tensors in a request's block: read as arrays, and written from arrays."""

import math
from typing import Any, Final

import numpy as np

from agent.inference.backends.tensors.tensor_model import DTYPES, Array, WrongTensorsError
from agent.messages.web import byte_elements
from agent.messages.web.requests import InferTensors, TensorAt
from agent.processes.slots.request_memory import BLOCK_BYTES, aligned

_MOST_DIMENSIONS: Final = 16
_BYTES: Final = "BYTES"
_DATATYPES: Final = {np.dtype(kind): name for name, kind in DTYPES.items()}


def read(message: InferTensors, block: memoryview) -> dict[str, Array]:
    """Return a request's tensors: views of the block, and texts. Raises WrongTensorsError for one not within it."""
    return {one.name: _texts(one, block) if one.datatype == _BYTES else _numbers(one, block) for one in message.inputs}


def _numbers(one: TensorAt, block: memoryview) -> Array:
    if one.datatype not in DTYPES:
        raise WrongTensorsError(f"inputs: {one.name!r} is {one.datatype}, which is not served")
    kind: np.dtype[Any] = np.dtype(DTYPES[one.datatype])
    count = _count(one)
    if not _is_within(one) or one.bytes != count * kind.itemsize:
        raise WrongTensorsError(f"inputs: {one.name!r} has {one.bytes} bytes, which is not its shape")
    return np.frombuffer(block, kind, count, one.offset).reshape(one.shape)


def _texts(one: TensorAt, block: memoryview) -> Array:
    if not _is_within(one):
        raise WrongTensorsError(f"inputs: {one.name!r} has {one.bytes} bytes, which do not lie in its block")
    try:
        found = [text.decode() for text in byte_elements.split(block[one.offset : one.offset + one.bytes])]
    except UnicodeDecodeError:
        raise WrongTensorsError(
            f"inputs: {one.name!r} holds bytes that are no UTF-8, which no model here takes"
        ) from None
    except ValueError as error:
        raise WrongTensorsError(f"inputs: {one.name!r} {error}") from None
    if len(found) != _count(one):
        raise WrongTensorsError(f"inputs: {one.name!r} has {len(found)} elements, which is not its shape")
    array = np.empty(len(found), np.object_)
    array[:] = found
    return array.reshape(one.shape)


def _count(one: TensorAt) -> int:
    """Return the number of elements of a shape. Raises WrongTensorsError for an impossible one."""
    if min(one.shape, default=1) < 0 or len(one.shape) > _MOST_DIMENSIONS:
        raise WrongTensorsError(f"inputs: {one.name!r} has an impossible shape")
    return math.prod(one.shape)


def _is_within(one: TensorAt) -> bool:
    return one.offset >= 0 and one.bytes >= 0 and one.offset + one.bytes <= BLOCK_BYTES


def write(answers: dict[str, Array], block: memoryview) -> tuple[TensorAt, ...]:
    """Write outputs to a block, over the inputs. Raises WrongTensorsError where they do not fit or have no datatype."""
    placed: list[TensorAt] = []
    offset = 0
    for name, array in answers.items():
        datatype = _DATATYPES.get(array.dtype)
        if datatype is None:
            raise WrongTensorsError(f"outputs: {name!r} is {array.dtype}, which is not served")
        texts = byte_elements.joined(_encoded(one) for one in array.ravel()) if datatype == _BYTES else None
        size_bytes = array.nbytes if texts is None else len(texts)
        if offset + size_bytes > BLOCK_BYTES:
            raise WrongTensorsError(f"outputs: they take more than {BLOCK_BYTES >> 20} MiB: ask for fewer of them")
        if texts is None:
            np.frombuffer(block, array.dtype, array.size, offset).reshape(array.shape)[...] = array
        else:
            block[offset : offset + size_bytes] = texts
        placed.append(TensorAt(name, datatype, array.shape, offset, size_bytes))  # type: ignore[arg-type] # DTYPES' keys
        offset += aligned(size_bytes)
    return tuple(placed)


def _encoded(one: object) -> bytes:
    return one if isinstance(one, bytes) else str(one).encode("utf-8", "surrogatepass")
