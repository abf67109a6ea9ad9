"""The body of `infer`: JSON, and after it the raw bytes of inputs that are binary data."""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from agent.web.gateway.core import json_data, tensors
from agent.web.gateway.core.faults import RequestError, invalid
from agent.web.gateway.core.tensors import Tensor
from agent.web.gateway.core.wishes import Wish, require_served, wish_of
from agent.web.gateway.rest.bodies import whole

_MOST_TENSORS: Final = 64
_UNSET: Final = msgspec.UNSET
_SIZE: Final = "binary_data_size"


class _Input(msgspec.Struct):  # null where a client has nothing to say, as those of pydantic write it
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: msgspec.Raw | msgspec.UnsetType = _UNSET


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Body(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Output] | None = None


@dataclass(frozen=True)
class InferBody:
    """A request as it was sent."""

    id: str
    inputs: list[Tensor]
    wish: Wish
    named: frozenset[str]
    """Outputs that are wanted as binary data."""
    is_binary: bool
    """Outputs are wanted as binary data where the request names none."""

    @classmethod
    def of_raw(cls, one: Tensor) -> "InferBody":
        """Return the request of a body that is the raw bytes of one input; all outputs are wanted as binary data."""
        return cls("", [one], Wish(), frozenset(), is_binary=True)


def parse(content: bytes, header_length: str | None) -> InferBody:
    """Return a request; `header_length` is the header with the JSON's length, None where all of it is JSON.

    Raises RequestError("invalid") that names the field.
    """
    text, raw = content, memoryview(b"")
    if header_length is not None:
        length = whole(header_length)
        if length is None or length > len(content):
            raise invalid("Inference-Header-Content-Length is not the length of a part of the body")
        text, raw = content[:length], memoryview(content)[length:]
    if len(text) > json_data.MOST_BYTES:
        detail = f"JSON of more than {json_data.MOST_BYTES >> 20} MiB: send the inputs as binary data"
        raise RequestError("too_large", detail)
    try:
        body = msgspec.json.decode(text, type=_Body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise invalid(f"the body: {error}") from None
    outputs, parameters = body.outputs or [], body.parameters or {}
    if len(body.inputs) > _MOST_TENSORS or len(outputs) > _MOST_TENSORS:
        raise invalid(f"inputs and outputs: at most {_MOST_TENSORS} each")
    inputs, left = [], raw
    for one in body.inputs:
        made, left = _tensor(one, left)
        inputs.append(made)
    if len(left):
        raise invalid(f"the body has {len(left)} bytes behind its last tensor")
    is_binary = _flag(parameters, "binary_data_output", "parameters")
    named: set[str] = set()
    for output in outputs:
        own = output.parameters or {}
        require_served("outputs", output.name, own)
        if _flag(own, "binary_data", f"outputs: {output.name[:64]!r}", is_unsaid=is_binary):
            named.add(output.name)
    wish = wish_of(parameters, tuple(one.name for one in outputs))
    return InferBody(body.id or "", inputs, wish, frozenset(named), is_binary)


def _flag(parameters: dict[str, Any], name: str, where: str, *, is_unsaid: bool = False) -> bool:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{where}: {name} is {str(value)[:32]!r}, expected true or false")
    return is_unsaid if value is None else value


def _tensor(one: _Input, raw: memoryview) -> tuple[Tensor, memoryview]:
    """Return an input, and the bytes behind it."""
    parameters = one.parameters or {}
    require_served("inputs", one.name, parameters)
    size = parameters.get(_SIZE)
    if size is None:
        if one.data is _UNSET:
            raise invalid(f"inputs: {one.name[:64]!r} has neither data nor {_SIZE}")
        return json_data.of_text(one.name, one.datatype, one.shape, bytes(one.data)), raw
    if one.data is not _UNSET:
        raise invalid(f"inputs: {one.name[:64]!r} has both data and {_SIZE}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(raw):
        raise invalid(f"inputs: {one.name[:64]!r}: {_SIZE} is more than the body has")
    return tensors.checked(one.name, one.datatype, one.shape, raw[:size]), raw[size:]
