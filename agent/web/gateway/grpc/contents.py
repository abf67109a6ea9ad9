"""Tensors in messages: raw bytes beside them, or typed contents within."""

from typing import Any, Final

from agent.messages.web import byte_elements
from agent.web.gateway.core import tensors
from agent.web.gateway.core.faults import RequestError, invalid
from agent.web.gateway.core.tensors import Tensor
from agent.web.gateway.core.wishes import Wish, require_served, wish_of
from agent.web.gateway.grpc.schema import Untyped

_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    tensors.BYTES: "bytes_contents",
}
"""The contents' field of each datatype; FP16 and BF16 come as raw bytes only."""
_MOST_TENSORS: Final = 64


def inputs_of(request: Untyped) -> list[Tensor]:
    """Return a request's inputs. Raises RequestError that names one which is wrong."""
    if len(request.inputs) > _MOST_TENSORS or len(request.outputs) > _MOST_TENSORS:
        raise invalid(f"inputs and outputs: at most {_MOST_TENSORS} each")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise invalid(f"raw_input_contents: {len(raw)} of them for {len(request.inputs)} inputs")
    made: list[Tensor] = []
    for at, one in enumerate(request.inputs):
        shape = list(one.shape)
        require_served("inputs", one.name, _values(one))
        if not raw:
            made.append(_of_contents(one, shape))
        elif one.HasField("contents"):
            raise invalid(f"inputs: {one.name[:64]!r} has both contents and raw_input_contents")
        else:
            made.append(tensors.checked(one.name, one.datatype, shape, raw[at]))
    return made


def wish_in(request: Untyped) -> Wish:
    """Return what a request asks for beside its inputs. Raises RequestError."""
    for output in request.outputs:
        require_served("outputs", output.name, _values(output))
    return wish_of(_values(request), tuple(one.name for one in request.outputs))


def add_outputs(response: Untyped, outputs: list[Tensor]) -> None:
    """Add outputs to a response, as raw bytes."""
    for one in outputs:
        response.outputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        response.raw_output_contents.append(bytes(one.raw))


def _of_contents(one: Untyped, shape: list[int]) -> Tensor:
    field = _FIELDS.get(one.datatype)
    if field is None:
        raise RequestError(
            "invalid", f"inputs: {one.name[:64]!r} is {one.datatype[:32]!r}: send it raw, or it is unknown"
        )
    tensors.elements(shape, one.name, one.datatype)
    found = getattr(one.contents, field)
    if one.datatype == tensors.BYTES:
        return tensors.checked(one.name, one.datatype, shape, byte_elements.joined(found))
    return tensors.of_numbers(one.name, one.datatype, shape, list(found))


def _values(one: Untyped) -> dict[str, Any]:
    return {name: _value(parameter) for name, parameter in one.parameters.items()}


def _value(one: Untyped) -> Any:  # noqa: ANN401 - one of five kinds
    choice = one.WhichOneof("parameter_choice")
    return getattr(one, choice) if choice else None
