"""Rewrites an ONNX file so that it computes in float16, for TensorRT 11, which keeps the types of a graph.

The field numbers are those of onnx.proto3. Fields that this module does not know are copied unchanged; a graph that
cannot be rewritten is refused, and the model is served in float32.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from agent.models.onnx_file import NotOnnxError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MODEL_GRAPH: Final = 7
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_VALUE = 1, 5, 11, 12, 13
_NODE_INPUT, _NODE_OUTPUT, _NODE_KIND, _NODE_ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH = 1, 2, 3, 5, 6
_ATTRIBUTE_FLOATS: Final = 7
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW, _TENSOR_EXTERNAL = 1, 2, 4, 8, 9, 13
_FLOAT, _HALF = 1, 10
_LARGEST: Final = 65504.0  # of float16; masks of -1e9 become this
_SEVEN_BITS, _MORE = 0x7F, 0x80
_VARINT_BYTES: Final = 10
_REFUSED: Final = frozenset({"NonMaxSuppression", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_FLOAT_INPUTS: Final = {"Resize": (1, 2), "Upsample": (1,)}
"""Indices of the inputs that stay float32, by operation: regions and scales of a picture."""


class _Field(NamedTuple):
    number: int
    wire: int
    value: memoryview
    """The bytes of a varint; the content of a message or a text."""
    whole: memoryview
    """The field with its tag and length."""


def write_half(source: Path, target: Path) -> None:
    """Write `source` to `target` with float16 in place of float32. Raises ValueError with the reason, and OSError."""
    try:
        written = b"".join(
            _message(field.number, _graph(field.value)) if field.number == _MODEL_GRAPH else bytes(field.whole)
            for field in _fields(memoryview(source.read_bytes()))
        )
    except (IndexError, NotOnnxError):
        raise ValueError("is no ONNX file") from None
    target.write_bytes(written)


def _graph(view: memoryview) -> bytes:
    fields = list(_fields(view))
    kept = {
        name for field in fields if field.number == _GRAPH_NODE for name in _float_inputs(list(_fields(field.value)))
    }
    return b"".join(_rewritten(field, kept) for field in fields if field.number != _GRAPH_VALUE)


def _rewritten(field: _Field, kept: set[str]) -> bytes:
    """Return one field of a graph, rewritten to float16 where it is a node, a constant, an input or an output.

    `kept`: the names of tensors that stay float32.
    """
    if field.number == _GRAPH_NODE:
        return _message(field.number, _node(field.value, kept))
    if field.number == _GRAPH_INITIALIZER:
        return _message(field.number, _tensor(field.value, kept))
    if field.number in {_GRAPH_INPUT, _GRAPH_OUTPUT}:
        return _message(field.number, _value_info(field.value))
    return bytes(field.whole)


def _float_inputs(fields: list[_Field]) -> Iterator[str]:
    kind = "".join(_text(field) for field in fields if field.number == _NODE_KIND)
    inputs = [_text(field) for field in fields if field.number == _NODE_INPUT]
    yield from (inputs[at] for at in _FLOAT_INPUTS.get(kind, ()) if at < len(inputs))


def _node(view: memoryview, kept: set[str]) -> bytes:
    fields = list(_fields(view))
    kind = "".join(_text(field) for field in fields if field.number == _NODE_KIND)
    if kind in _REFUSED:
        raise ValueError(f"its operation {kind} is not for float16")
    outputs = {_text(field) for field in fields if field.number == _NODE_OUTPUT}
    stays = kind == "Constant" and bool(outputs & kept)
    return b"".join(
        _message(field.number, _attribute(field.value, kind, kept))
        if field.number == _NODE_ATTRIBUTE and not stays
        else bytes(field.whole)
        for field in fields
    )


def _attribute(view: memoryview, kind: str, kept: set[str]) -> bytes:
    fields = list(_fields(view))
    name = "".join(_text(field) for field in fields if field.number == _ATTRIBUTE_NAME)
    if kind == "Constant" and any(field.number in {_ATTRIBUTE_FLOAT, _ATTRIBUTE_FLOATS} for field in fields):
        raise ValueError("a constant of its graph is a bare number")  # an attribute of its own, without a type
    parts = []
    for field in fields:
        if field.number == _ATTRIBUTE_TENSOR:
            parts.append(_message(field.number, _tensor(field.value, kept)))
        elif field.number == _ATTRIBUTE_GRAPH:
            parts.append(_message(field.number, _graph(field.value)))
        elif field.number == _ATTRIBUTE_INT and (kind, name) == ("Cast", "to") and _number(field) == _FLOAT:
            parts.append(_varint_field(field.number, _HALF))
        else:
            parts.append(bytes(field.whole))
    return b"".join(parts)


def _tensor(view: memoryview, kept: set[str]) -> bytes:
    fields = list(_fields(view))
    kind = next((_number(field) for field in fields if field.number == _TENSOR_TYPE), 0)
    name = "".join(_text(field) for field in fields if field.number == _TENSOR_NAME)
    if kind != _FLOAT or name in kept:
        return bytes(view)
    if any(field.number == _TENSOR_EXTERNAL for field in fields):
        raise ValueError("its weights lie in another file")
    raw = b"".join(bytes(field.value) for field in fields if field.number in {_TENSOR_FLOATS, _TENSOR_RAW})
    half = np.clip(np.frombuffer(raw, "<f4"), -_LARGEST, _LARGEST).astype("<f2").tobytes()
    others = (_TENSOR_FLOATS, _TENSOR_RAW, _TENSOR_TYPE)
    copied = b"".join(bytes(field.whole) for field in fields if field.number not in others)
    return copied + _varint_field(_TENSOR_TYPE, _HALF) + _message(_TENSOR_RAW, half)


def _value_info(view: memoryview) -> bytes:
    """Rewrite a ValueInfoProto: type 2 > tensor_type 1 > elem_type 1."""
    return _inside(view, (2, 1))


def _inside(view: memoryview, path: tuple[int, ...]) -> bytes:
    parts = []
    for field in _fields(view):
        if path and field.number == path[0] and field.wire == _BYTES:
            parts.append(_message(field.number, _inside(field.value, path[1:])))
        elif not path and field.number == 1 and field.wire == _VARINT and _number(field) == _FLOAT:
            parts.append(_varint_field(1, _HALF))
        else:
            parts.append(bytes(field.whole))
    return b"".join(parts)


def _fields(view: memoryview) -> Iterator[_Field]:
    at = 0
    while at < len(view):
        begin = at
        tag, at = _varint(view, at)
        wire = tag & 7
        if wire == _VARINT:
            value_at = at
            _, at = _varint(view, at)
        elif wire == _BYTES:
            size, value_at = _varint(view, at)
            at = value_at + size
        elif wire in {_FIXED32, _FIXED64}:
            value_at = at
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError("is no ONNX file")
        if at > len(view):
            raise ValueError("is cut")
        yield _Field(tag >> 3, wire, view[value_at:at], view[begin:at])


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_VARINT_BYTES):
        byte = view[at]
        at += 1
        value |= (byte & _SEVEN_BITS) << shift
        if byte < _MORE:
            return value, at
        shift += 7
    raise ValueError("is no ONNX file")


def _number(field: _Field) -> int:
    return _varint(field.value, 0)[0]


def _text(field: _Field) -> str:
    return str(field.value, "utf-8", "replace")


def _message(number: int, content: bytes) -> bytes:
    return _as_varint(number << 3 | _BYTES) + _as_varint(len(content)) + content


def _varint_field(number: int, value: int) -> bytes:
    return _as_varint(number << 3 | _VARINT) + _as_varint(value)


def _as_varint(value: int) -> bytes:
    parts = bytearray()
    while value >= _MORE:
        parts.append(value & _SEVEN_BITS | _MORE)
        value >>= 7
    parts.append(value)
    return bytes(parts)
