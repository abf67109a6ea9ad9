"""Reader of an ONNX file's inputs, outputs, metadata and external files, without a runtime or the onnx package.

An ONNX file is a protobuf message; the field numbers are those of onnx.proto3. Only lengths and a few small fields are
read; tensors are skipped.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.files import open_regular

OPEN: Final = -1
"""A side of a shape that the file leaves open."""
SIZES: Final = "orig_target_sizes"
FILLED: Final = frozenset({SIZES, "pixel_mask"})
"""Inputs beside the picture that are filled with ones: boxes then come in shares, and no pixel is masked."""

_VARINT, _FIXED64, _BYTES, _GROUP, _GROUP_END, _FIXED32 = range(6)
_SKIPPED_BYTES: Final = {_FIXED64: 8, _FIXED32: 4, _GROUP: 0, _GROUP_END: 0}
_VARINT_BYTES: Final = 10
_MOST_DEPTH: Final = 64
_MOST_FIELDS: Final = 1 << 18
"""Most fields that are read of one file; a detection model has some ten thousand."""
_NEGATIVE: Final = 1 << 63
_SEARCHED_BYTES: Final = 1 << 18
"""Bytes that are searched at once, because the GIL is held meanwhile."""
_WORD_OF_EXTERNAL: Final = b"location"  # key of every tensor that is stored in another file
_WORD_OF_COMPILED: Final = b"EPContext"  # operation of ONNX Runtime that holds, or names the file of, compiled code

# ModelProto, GraphProto, NodeProto, AttributeProto, FunctionProto: where tensors and graphs may stand.
_MODEL_GRAPH, _MODEL_METADATA, _MODEL_FUNCTION, _MODEL_TRAINING = 7, 14, 25, 20
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 11, 12, 15
_NODE_ATTRIBUTE, _FUNCTION_NODE, _FUNCTION_ATTRIBUTE = 5, 7, 11
_ATTRIBUTE_TENSORS: Final = frozenset({5, 10})
_ATTRIBUTE_GRAPHS: Final = frozenset({6, 11})
_ATTRIBUTE_SPARSE: Final = frozenset({22, 23})
_SPARSE_TENSORS: Final = frozenset({1, 2})
_TENSOR_NAME, _TENSOR_EXTERNAL = 8, 13
_TRAINING_GRAPHS: Final = frozenset({1, 2})
_WHOLE: Final = frozenset({2, 3, 4, 5, 6, 7, 12, 13})  # uint8, int8, uint16, int16, int32, int64, uint32, uint64


@dataclass(frozen=True)
class Port:
    """One input or output of a graph."""

    name: str
    sides: tuple[int, ...]
    """Shape; OPEN for a side that the file leaves open. Empty where the file gives no shape."""
    is_whole: bool = False
    """True for integers."""


class NotOnnxError(Exception):
    """A file is no ONNX file; the message tells a user why."""


@dataclass(frozen=True)
class OnnxFile:
    """Structure of an ONNX file."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    """Key-value pairs that the exporter wrote."""
    external: tuple[str, ...]
    """Further files that hold tensors, relative to this file's folder."""


def read(path: Path) -> OnnxFile:
    """Parse an ONNX file. Raises NotOnnxError where it is none, damaged or holds compiled code; and OSError."""
    with open_regular(path) as file:
        if path.stat().st_size == 0:
            raise NotOnnxError("is empty")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if _holds(mapped, _WORD_OF_COMPILED):
        raise NotOnnxError("holds code compiled for one device (EPContext): give the ONNX file that it was made from")
    try:
        return _Reading().structure(memoryview(mapped), has_external=_holds(mapped, _WORD_OF_EXTERNAL))
    except (IndexError, UnicodeDecodeError):
        raise NotOnnxError("is no ONNX file") from None


def _holds(mapped: mmap.mmap, word: bytes) -> bool:
    starts = range(0, len(mapped), _SEARCHED_BYTES)
    return any(mapped.find(word, start, start + _SEARCHED_BYTES + len(word) - 1) >= 0 for start in starts)


class _Reading:
    """Reading of one file, with a bound on its fields, because a file may hold millions of empty ones."""

    def __init__(self) -> None:
        self._left: Final = iter(range(_MOST_FIELDS))

    def _fields(self, view: memoryview, *, is_file: bool = False) -> Iterator[tuple[int, int | memoryview]]:
        return fields(view, self._left, is_file=is_file)

    def structure(self, view: memoryview, *, has_external: bool) -> OnnxFile:
        inputs: tuple[Port, ...] = ()
        outputs: tuple[Port, ...] = ()
        metadata: dict[str, str] = {}
        external: dict[str, None] = {}
        has_graph = False
        for field, value in self._fields(view, is_file=True):
            if field == _MODEL_METADATA:
                key, text = self._pair(_message(value))
                metadata[key] = text
            elif field == _MODEL_GRAPH:
                has_graph = True
                inputs, outputs = self._ends(_message(value))
        if not has_graph:
            raise NotOnnxError("is no ONNX file: it holds no graph")
        if has_external:
            external = dict.fromkeys(self._locations_of_model(view))
        return OnnxFile(inputs, outputs, metadata, tuple(external))

    def _locations_of_model(self, view: memoryview) -> Iterator[str]:
        for field, value in self._fields(view):
            if field == _MODEL_GRAPH:
                yield from self._locations_of_graph(_message(value), 0)
            elif field == _MODEL_FUNCTION:
                yield from self._locations_of_function(_message(value))
            elif field == _MODEL_TRAINING:
                for inner, graph in self._fields(_message(value)):
                    if inner in _TRAINING_GRAPHS:
                        yield from self._locations_of_graph(_message(graph), 0)

    def _locations_of_function(self, view: memoryview) -> Iterator[str]:
        for field, value in self._fields(view):
            if field == _FUNCTION_NODE:
                yield from self._locations_of_node(_message(value), 0)
            elif field == _FUNCTION_ATTRIBUTE:
                yield from self._locations_of_attribute(_message(value), 0)

    def _locations_of_graph(self, view: memoryview, depth: int) -> Iterator[str]:
        if depth > _MOST_DEPTH:
            raise NotOnnxError("nests its graphs too deep")
        for field, value in self._fields(view):
            if field == _GRAPH_NODE:
                yield from self._locations_of_node(_message(value), depth)
            elif field == _GRAPH_INITIALIZER:
                yield from self._locations_of_tensor(_message(value))
            elif field == _GRAPH_SPARSE:
                yield from self._locations_of_sparse(_message(value))

    def _locations_of_node(self, view: memoryview, depth: int) -> Iterator[str]:
        for field, value in self._fields(view):
            if field == _NODE_ATTRIBUTE:
                yield from self._locations_of_attribute(_message(value), depth)

    def _locations_of_attribute(self, view: memoryview, depth: int) -> Iterator[str]:
        for field, value in self._fields(view):
            if field in _ATTRIBUTE_TENSORS:
                yield from self._locations_of_tensor(_message(value))
            elif field in _ATTRIBUTE_GRAPHS:
                yield from self._locations_of_graph(_message(value), depth + 1)
            elif field in _ATTRIBUTE_SPARSE:
                yield from self._locations_of_sparse(_message(value))

    def _locations_of_sparse(self, view: memoryview) -> Iterator[str]:
        for field, value in self._fields(view):
            if field in _SPARSE_TENSORS:
                yield from self._locations_of_tensor(_message(value))

    def _locations_of_tensor(self, view: memoryview) -> Iterator[str]:
        for field, value in self._fields(view):
            if field == _TENSOR_EXTERNAL:
                key, text = self._pair(_message(value))
                if key == "location":
                    yield text

    def _ends(self, graph: memoryview) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
        """Return the inputs, without the weights that older files list among them, and the outputs."""
        found: dict[str, Port] = {}
        outputs: list[Port] = []
        weights = set()
        for field, value in self._fields(graph):
            if field == _GRAPH_INPUT:
                port = self._value_info(_message(value))
                found[port.name] = port
            elif field == _GRAPH_OUTPUT:
                outputs.append(self._value_info(_message(value)))
            elif field == _GRAPH_INITIALIZER:
                weights |= {_text(inner) for name, inner in self._fields(_message(value)) if name == _TENSOR_NAME}
        return tuple(port for name, port in found.items() if name not in weights), tuple(outputs)

    def _value_info(self, view: memoryview) -> Port:
        """Read a ValueInfoProto: name 1, type 2 > tensor_type 1 > elem_type 1, shape 2 > dim 1 > dim_value 1."""
        name = "".join(_text(value) for field, value in self._fields(view) if field == 1)
        tensors = [tensor for kind in self._inner(view, 2) for tensor in self._inner(kind, 1)]
        kinds = [value for tensor in tensors for field, value in self._fields(tensor) if field == 1]
        shapes = [shape for tensor in tensors for shape in self._inner(tensor, 2)]
        sides = tuple(self._side(dim) for shape in shapes for dim in self._inner(shape, 1))
        return Port(name, sides, any(kind in _WHOLE for kind in kinds))

    def _side(self, dim: memoryview) -> int:
        """Return a dimension; OPEN for a dynamic one, which some exporters write as a negative number."""
        side = next((value for field, value in self._fields(dim) if field == 1 and isinstance(value, int)), None)
        return OPEN if side is None or side >= _NEGATIVE else side

    def _inner(self, view: memoryview, wanted: int) -> list[memoryview]:
        return [_message(inner) for field, inner in self._fields(view) if field == wanted]

    def _pair(self, view: memoryview) -> tuple[str, str]:
        """Read a StringStringEntryProto."""
        values = dict(self._fields(view))
        return _text(values.get(1, memoryview(b""))), _text(values.get(2, memoryview(b"")))


def _text(value: int | memoryview) -> str:
    return str(_message(value), "utf-8")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise NotOnnxError("is no ONNX file")
    return value


def fields(
    view: memoryview, left: Iterator[int] | None = None, *, is_file: bool = False
) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of a protobuf message, the value an integer or a view of the bytes.

    Raises NotOnnxError for invalid or truncated bytes, and for more fields than `left` yields, which several messages
    may share.
    """
    left = iter(range(_MOST_FIELDS)) if left is None else left
    at, end = 0, len(view)
    depth = 0  # depth of groups, which ONNX does not use and every reader skips
    while at < end:
        if next(left, None) is None:
            raise NotOnnxError(f"has more than {_MOST_FIELDS} fields, which no detection model has")
        tag, at = _varint(view, at)
        field, kind = tag >> 3, tag & 7
        value, next_at = _value(view, at, kind)
        if next_at > end:
            words = f"{end / 1e6:.1f} of {next_at / 1e6:.1f} MB are there, {next_at - end} bytes are missing"
            raise NotOnnxError(f"is cut: {words}" if is_file and kind == _BYTES else "is no ONNX file, or is damaged")
        depth += (kind == _GROUP) - (kind == _GROUP_END)
        if not field or depth < 0:
            raise NotOnnxError("is no ONNX file")
        if value is not None and not depth:
            yield field, value
        at = next_at


def _value(view: memoryview, at: int, kind: int) -> tuple[int | memoryview | None, int]:
    """Return a field's value (None for types that ONNX does not use) and the offset of the next field."""
    if kind == _VARINT:
        return _varint(view, at)
    if kind == _BYTES:
        size, at = _varint(view, at)
        return view[at : at + size], at + size
    if kind not in _SKIPPED_BYTES:
        raise NotOnnxError("is no ONNX file")
    return None, at + _SKIPPED_BYTES[kind]


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_VARINT_BYTES):
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says whether another byte follows
            return value, at
        shift += 7
    raise NotOnnxError("is no ONNX file")
