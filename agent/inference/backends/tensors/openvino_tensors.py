"""Loads any ONNX or IR file for raw tensors, with OpenVINO."""

from typing import Final

from agent.inference.backends.detector import Untyped
from agent.inference.backends.errors import TextsError, loading
from agent.inference.backends.openvino_graph import core
from agent.inference.backends.tensors.growth import most_open_elements
from agent.inference.backends.tensors.tensor_model import Array, TensorModel
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelVersion
from agent.messages.web.open_sides import OPEN
from agent.messages.web.requests import Port
from agent.processes.package_version import version_of

_DEVICE: Final = "CPU"
_SINK: Final = "/sink_port_"
"""Behind the name of an output in that of its node."""
_DATATYPES: Final = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
    "bf16": "BF16",
    "string": "BYTES",
}
_MOST_INTEGER: Final = 2**31 - 1
"""The CPU plugin computes with integers of 32 bits, and cuts off the others' higher ones without a word."""
# float32, because nobody compares the answers of a lower precision with the file's, as is done for detectors.
_OPTIONS: Final = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}


def load(version: ModelVersion, compute: str) -> TensorModel:
    """Load a file; raises what `backends.load` raises, and TextsError."""
    del compute  # unused, because `backends.choice` refuses any other processor
    with loading(version):
        graph = core().read_model(version.path)
        if any(one.get_element_type().get_type_name() == "string" for one in (*graph.inputs, *graph.outputs)):
            raise TextsError(version.reference)
        most_open = most_open_elements(graph)
        compiled = core().compile_model(graph, _DEVICE, _OPTIONS)
        devices = ",".join(compiled.get_property("EXECUTION_DEVICES"))
        processor = ModelProcessor(devices.lower(), "openvino", version_of("openvino") or "", devices)
        inputs = tuple(_port(one, f"input_{at}") for at, one in enumerate(compiled.inputs))
        outputs = tuple(_port(one, f"output_{at}") for at, one in enumerate(compiled.outputs))
        bounds = {"most_open": most_open, "most_integer": _MOST_INTEGER}
        return TensorModel(version.reference, _Session(compiled), inputs, outputs, processor, **bounds)


def _port(one: Untyped, unnamed: str) -> Port:
    """Return an input or output under its name in the file, beside which compiling may leave those of other tensors."""
    names = sorted(one.get_names())
    own = one.get_node().get_friendly_name().partition(_SINK)[0]
    name = own if own in names else names[0] if names else unnamed
    sides = tuple(side.get_length() if side.is_static else OPEN for side in one.get_partial_shape())
    kind = one.get_element_type().get_type_name()
    return Port(name, _DATATYPES.get(kind, kind.upper()), sides)


class _Session:
    def __init__(self, compiled: Untyped) -> None:
        self._compiled: Untyped = compiled
        self._request: Untyped = compiled.create_infer_request()

    def run(self, inputs: list[Array], outputs: list[int]) -> list[Array]:
        self._request.infer(dict(enumerate(inputs)), share_inputs=True)
        return [self._request.get_output_tensor(at).data for at in outputs]

    def give_back(self) -> None:
        self._request = None
        self._compiled.release_memory()
        self._request = self._compiled.create_infer_request()

    def close(self) -> None:
        self._compiled = None
        self._request = None  # last, because the reverse order holds the GIL for long
