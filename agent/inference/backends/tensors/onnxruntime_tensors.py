"""Loads any ONNX file for raw tensors, with ONNX Runtime, on CPUs and NVIDIA GPUs."""

from typing import Final

from agent.inference.backends import onnxruntime
from agent.inference.backends.detector import Untyped
from agent.inference.backends.errors import loading
from agent.inference.backends.onnxruntime_arena import shrink
from agent.inference.backends.tensors.tensor_model import Array, TensorModel
from agent.messages.references import ModelVersion
from agent.messages.web.open_sides import OPEN
from agent.messages.web.requests import Port

_DATATYPES: Final = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "bfloat16": "BF16",
    "string": "BYTES",
}


def load(version: ModelVersion, compute: str) -> TensorModel:
    """Load a file; raises what `backends.load` raises."""
    with loading(version):
        session = onnxruntime.open_session(version.reference, version.path, compute)
        inputs = tuple(map(_port, session.get_inputs()))
        outputs = tuple(map(_port, session.get_outputs()))
        processor = onnxruntime.processor_of_session(session)
        return TensorModel(version.reference, _Session(session, inputs, outputs), inputs, outputs, processor)


def _port(one: Untyped) -> Port:
    kind = one.type.removeprefix("tensor(").removesuffix(")")
    sides = tuple(side if isinstance(side, int) and side >= 0 else OPEN for side in one.shape)
    return Port(one.name, _DATATYPES.get(kind, kind.upper()), sides)


class _Session:
    def __init__(self, session: Untyped, inputs: tuple[Port, ...], outputs: tuple[Port, ...]) -> None:
        self._session: Untyped = session
        self._inputs: Final = inputs
        self._outputs: Final = outputs

    def run(self, inputs: list[Array], outputs: list[int]) -> list[Array]:
        feeds = {port.name: array for port, array in zip(self._inputs, inputs, strict=True)}
        answers: list[Array] = self._session.run([self._outputs[at].name for at in outputs], feeds)
        return answers

    def give_back(self) -> None:
        shrink()

    def close(self) -> None:
        self._session = None
        shrink()
