"""TensorRT's network as an ONNX graph: what the parser reads, and each layer that is added, become its nodes."""

import weakref  # noqa: TC003 - a type that is read at run time
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_FAR: int = -(2**31)  # beyond the first element, for a slice that runs backwards

ONNX_TYPES = {
    "FLOAT": TensorProto.FLOAT,
    "HALF": TensorProto.FLOAT16,
    "UINT8": TensorProto.UINT8,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "BOOL": TensorProto.BOOL,
}
TYPE_NAMES = {number: name for name, number in ONNX_TYPES.items()}


class BuildError(Exception):
    """Fault of a network that TensorRT would refuse when it builds."""


class Graph:
    """A network under construction."""

    def __init__(self) -> None:
        self.layers: list[Any] = []
        self.inputs: dict[str, onnx.ValueInfoProto] = {}
        self.outputs: list[str] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.opset = 17
        self.renamed: dict[str, str] = {}
        self._numbers = 0
        self._known: tuple[int, dict[str, tuple[str, tuple[int, ...]]]] | None = None
        self.changes = 0

    def fresh(self) -> str:
        self._numbers += 1
        return f"(Unnamed Layer* {self._numbers})_output"

    def changed(self) -> None:
        self.changes += 1

    def read(self, model: onnx.ModelProto) -> list[onnx.NodeProto]:
        self.opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
        self.initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.inputs = {entry.name: entry for entry in model.graph.input if entry.name not in self.initializers}
        self.outputs = [entry.name for entry in model.graph.output]
        self.changed()
        return list(model.graph.node)

    def facts_of(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Type and shape of a tensor; -1 for an open side."""
        if self._known is None or self._known[0] != self.changes:
            inferred = onnx.shape_inference.infer_shapes(self.model(), strict_mode=True, data_prop=True).graph
            infos = [*inferred.input, *inferred.output, *inferred.value_info]
            found = {one.name: _facts(one) for one in infos}
            found |= {
                name: (TYPE_NAMES.get(one.data_type, "?"), tuple(one.dims)) for name, one in self.initializers.items()
            }
            self._known = (self.changes, found)
        return self._known[1][name]

    def model(self, outputs: Sequence[str] | None = None) -> onnx.ModelProto:
        nodes, extra = [], []
        for layer in self.layers:
            made, constants = layer.emit(self)
            nodes += made
            extra += constants
        ends = [helper.make_empty_tensor_value_info(name) for name in (self.outputs if outputs is None else outputs)]
        known = {*self.inputs, *self.initializers, *(one.name for one in extra), ""}
        graph = helper.make_graph(
            _in_order(nodes, known), "network", list(self.inputs.values()), ends, [*self.initializers.values(), *extra]
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)

    def built(self) -> onnx.ModelProto:
        """The whole model, with its types. Raises BuildError."""
        try:
            model = onnx.shape_inference.infer_shapes(self.model(), strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            raise BuildError(f"type or shape: {error}") from error
        kinds = {one.name: _facts(one)[0] for one in (*model.graph.input, *model.graph.value_info)}
        for node in model.graph.node:
            if any(kinds.get(name) == "UINT8" for name in node.input) and node.op_type not in {"Cast", "Identity"}:
                raise BuildError(f"UINT8 goes into {node.op_type}, and only a cast takes it")
        used = {name for node in model.graph.node for name in node.input}
        unused = [entry.name for entry in model.graph.input if entry.name not in used]
        if unused:
            raise BuildError(f"input {unused[0]} is not used")
        if any(_facts(end)[1] == () or min(_facts(end)[1], default=0) < 0 for end in model.graph.output):
            raise BuildError("an output has an open side, and there is no optimization profile")
        return model


def _in_order(nodes: list[onnx.NodeProto], known: set[str]) -> list[onnx.NodeProto]:
    """Nodes after those whose outputs they take, as ONNX wants them and TensorRT does not care."""
    ordered: list[onnx.NodeProto] = []
    left = nodes
    while left:
        ready = [node for node in left if known.issuperset(node.input)]
        if not ready:
            raise BuildError(f"nothing gives {sorted(set(left[0].input) - known)}")
        known |= {name for node in ready for name in node.output}
        ordered += ready
        left = [node for node in left if node not in ready]
    return ordered


def _facts(info: onnx.ValueInfoProto) -> tuple[str, tuple[int, ...]]:
    tensor = info.type.tensor_type
    sides = tuple(side.dim_value if side.HasField("dim_value") else -1 for side in tensor.shape.dim)
    return TYPE_NAMES.get(tensor.elem_type, "?"), sides


Emitted = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


class Parsed:
    """A node of the file."""

    def __init__(self, node: onnx.NodeProto) -> None:
        self.node = node
        self.inputs = list(node.input)
        self.outputs = list(node.output)

    def emit(self, graph: Graph) -> Emitted:
        node = onnx.NodeProto()
        node.CopyFrom(self.node)
        del node.input[:]
        node.input.extend(self.inputs)
        del node.output[:]
        node.output.extend(graph.renamed.get(name, name) for name in self.outputs)
        return [node], []


class Added:
    """A layer that was added by a call; `kind` is its ONNX operation."""

    def __init__(self, graph: Graph, kind: str, inputs: list[str], count: int = 1, **attributes: Any) -> None:
        self.kind, self.inputs, self.attributes = kind, inputs, attributes
        self.outputs = [graph.fresh() for _ in range(count)]

    def emit(self, graph: Graph) -> Emitted:
        outputs = [graph.renamed.get(name, name) for name in self.outputs]
        return [helper.make_node(self.kind, self.inputs, outputs, **self.attributes)], []


class Constant(Added):
    """Numbers, which are read when the network is built, and not before."""

    def __init__(self, graph: Graph, shape: tuple[int, ...], numbers: "weakref.ref[np.ndarray[Any, Any]]") -> None:
        super().__init__(graph, "Constant", [])
        self.shape, self.numbers = shape, numbers

    def emit(self, graph: Graph) -> Emitted:
        numbers = self.numbers()
        if numbers is None:
            raise BuildError("the weights of a constant were freed before the build")
        return [], [numpy_helper.from_array(numbers.reshape(self.shape), self.outputs[0])]


class Shuffle(Added):
    """A transposition, then a new shape."""

    def __init__(self, graph: Graph, tensor: str) -> None:
        super().__init__(graph, "Shuffle", [tensor])
        self.order: tuple[int, ...] | None = None
        self.shape: tuple[int, ...] | None = None

    def emit(self, graph: Graph) -> Emitted:
        name, (out,) = self.inputs[0], [graph.renamed.get(one, one) for one in self.outputs]
        nodes, constants = [], []
        if self.order is not None:
            nodes.append(helper.make_node("Transpose", [name], [f"{out}/turned"], perm=self.order))
            name = f"{out}/turned"
        if self.shape is not None:
            constants.append(numpy_helper.from_array(np.array(self.shape, np.int64), f"{out}/shape"))
            nodes.append(helper.make_node("Reshape", [name, f"{out}/shape"], [f"{out}/shaped"]))
            name = f"{out}/shaped"
        return [*nodes, helper.make_node("Identity", [name], [out])], constants


class Slice(Added):
    """A part of a tensor; a negative stride runs backwards."""

    def __init__(
        self, graph: Graph, tensor: str, start: Sequence[int], shape: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__(graph, "Slice", [tensor])
        self.start, self.shape, self.stride = start, shape, stride

    def emit(self, graph: Graph) -> Emitted:
        out = graph.renamed.get(self.outputs[0], self.outputs[0])
        ends = [
            begin + count * step if begin + count * step >= 0 else _FAR
            for begin, count, step in zip(self.start, self.shape, self.stride, strict=True)
        ]
        parts = {"begin": self.start, "end": ends, "axes": range(len(self.start)), "steps": self.stride}
        constants = [numpy_helper.from_array(np.array(list(v), np.int64), f"{out}/{k}") for k, v in parts.items()]
        return [helper.make_node("Slice", [self.inputs[0], *(one.name for one in constants)], [out])], constants


class TopK(Added):
    """The largest of an axis, and where they are, as int32."""

    def __init__(self, graph: Graph, tensor: str, k: int, axes: int) -> None:
        super().__init__(graph, "TopK", [tensor], 2)
        self.k, self.axis = k, axes.bit_length() - 1

    def emit(self, graph: Graph) -> Emitted:
        values, places = (graph.renamed.get(one, one) for one in self.outputs)
        count = numpy_helper.from_array(np.array([self.k], np.int64), f"{values}/k")
        nodes = [
            helper.make_node("TopK", [self.inputs[0], count.name], [values, f"{places}/wide"], axis=self.axis),
            helper.make_node("Cast", [f"{places}/wide"], [places], to=TensorProto.INT32),
        ]
        return nodes, [count]
