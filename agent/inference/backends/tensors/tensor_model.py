"""A loaded model without a head: named tensors in, named tensors out."""

import threading
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from agent.inference.backends.errors import InferenceError, inferring
from agent.inference.backends.in_flight import InFlightLimiter
from agent.inference.yolo.objects import Objects, no_objects
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelReading
from agent.messages.web.open_sides import OPEN, beyond_bound
from agent.messages.web.requests import Port

Array: TypeAlias = NDArray[Any]
"""A tensor of whatever element type."""
_NOBODY: Final = nullcontext()
_SIDE: Final = 64
_KEPT_TIMES, _LEAST_KEPT_BYTES = 8, 64 << 10
"""A runtime keeps its memory after inputs of up to so many times the proof's bytes, and of up to so many bytes."""

_LONG: Final = (np.int64, np.uint64)

DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""numpy's types by the protocol's names; elements of BYTES are `str`. BF16 has none."""


class WrongTensorsError(ModelError):
    """A request's tensors do not fit the model; the message names the input."""

    def __init__(self, detail: str) -> None:
        super().__init__("not_understood", detail)


class Session(Protocol):
    """A runtime's model."""

    def run(self, inputs: list[Array], outputs: list[int]) -> list[Array]:
        """Infer all inputs, in their order; return the outputs of those numbers, valid until the next run."""

    def give_back(self) -> None:
        """Release the memory that an inference left for the next one."""

    def close(self) -> None:
        """Release the runtime's model."""


class TensorModel:
    """A `Model` whose pictures are refused, and which infers tensors, one request at a time. Threading: any thread."""

    def __init__(  # noqa: PLR0913 - the parts of a model, spelt out
        self,
        reference: str,
        session: Session,
        inputs: tuple[Port, ...],
        outputs: tuple[Port, ...],
        processor: ModelProcessor,
        *,
        most_open: int = 0,
        most_integer: int = 0,
    ) -> None:
        """Store the parts; `most_integer` is the largest integer that the runtime computes with, 0: of any datatype."""
        self.inputs: Final = inputs
        self.outputs: Final = outputs
        self.most_open: Final = most_open
        """Most elements on the open sides of a request's inputs, as `open_sides` counts them; 0: unknown."""
        self.backend: Final = processor.runtime
        self.processor: Final = processor
        self.names: Final[tuple[str, ...]] = ()
        self.imgsz: Final = (_SIDE, _SIDE)  # of the drawn pictures, which `check_outputs` does not look at
        self.places: Final = InFlightLimiter()
        self.reading: Final = ModelReading("", "tensors")
        self.device_bytes: Final = 0
        self.proof_bytes = 0
        """Bytes of the inputs that `check_outputs` last gave the model, as a request counts them."""
        self.proof_ns = 0
        """Duration of that inference; 0 where the model refused it."""
        self.gave_back = False
        """True where the last inference's memory went back to the allocator, which keeps it until it is trimmed."""
        self._reference: Final = reference
        self._session: Session | None = session
        self._running: Final = threading.Lock()
        self._refusal = ""
        self._most_integer: Final = most_integer

    def run(self, given: Mapping[str, Array], wanted: tuple[str, ...]) -> dict[str, Array]:
        """Infer; `given` has an array for each input, `wanted` names outputs, all where it is empty.

        The arrays belong to the caller. Raises WrongTensorsError, InferenceError and OutOfMemoryError.
        """
        self.gave_back = False
        if self._refusal:
            raise ModelError("proof_failed", self._refusal)
        arrays = [self._fitting(port, given.get(port.name)) for port in self.inputs]
        if unknown := given.keys() - {port.name for port in self.inputs}:
            raise WrongTensorsError(f"inputs: no {min(unknown)!r}; expected {_names(self.inputs)}")
        sized = ((port.name, array.shape, port.shape) for port, array in zip(self.inputs, arrays, strict=True))
        if wrong := beyond_bound(sized, self.most_open):
            raise WrongTensorsError(wrong)
        numbers = self._numbers(wanted)
        with inferring(self._reference), self._running:
            if self._session is None:
                raise InferenceError(f"{self._reference}: is closed")
            answers: list[Array] = []
            try:
                answers = self._session.run(arrays, numbers)
                return {self.outputs[at].name: _copy(one) for at, one in zip(numbers, answers, strict=True)}
            finally:
                answers.clear()  # because they lie in the runtime's memory
                kept_bytes = max(_KEPT_TIMES * self.proof_bytes, _LEAST_KEPT_BYTES)
                self.gave_back = sum(map(_size_bytes, arrays)) > kept_bytes
                if self.gave_back:
                    self._session.give_back()

    def _numbers(self, wanted: tuple[str, ...]) -> list[int]:
        known = {port.name: at for at, port in enumerate(self.outputs)}
        if unknown := set(wanted) - known.keys():
            raise WrongTensorsError(f"outputs: no {min(unknown)!r}; expected {_names(self.outputs)}")
        return [known[name] for name in wanted] if wanted else list(known.values())

    def _fitting(self, port: Port, array: Array | None) -> Array:
        """Return the array for an input. Raises WrongTensorsError that names the input, and what was expected."""
        if array is None:
            raise WrongTensorsError(f"inputs: {port.name!r} is missing; expected {_names(self.inputs)}")
        dtype = DTYPES.get(port.datatype)
        if dtype is None:
            raise WrongTensorsError(f"inputs: {port.name!r} is {port.datatype}, which is not served")
        if array.dtype != dtype:
            raise WrongTensorsError(f"inputs: {port.name!r} has datatype {array.dtype}, expected {port.datatype}")
        fits = len(array.shape) == len(port.shape) and all(
            want in {have, OPEN} for have, want in zip(array.shape, port.shape, strict=True)
        )
        if not fits or not array.size:
            expected = list(port.shape)
            raise WrongTensorsError(f"inputs: {port.name!r} has shape {list(array.shape)}, expected {expected}")
        most = self._most_integer
        if most and array.dtype in _LONG and (array.max() > most or array.min() < -most - 1):
            raise WrongTensorsError(
                f"inputs: {port.name!r} holds numbers beyond {most}, which {self.backend} cannot take"
            )
        return array

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        """Infer zeros twice, and time the second; raises what `run` raises, and ModelError("proof_failed") for a NaN.

        An input with open sides is given one element on each, which a model may refuse: that proves nothing.
        """
        del image
        zeros = {port.name: _zeros(port) for port in self.inputs}
        self.proof_bytes = sum(map(_size_bytes, zeros.values()))
        try:
            self.run(zeros, ())  # untimed, because the first inference allocates
            began_ns = time.monotonic_ns()
            answers = self.run(zeros, ())
            self.proof_ns = time.monotonic_ns() - began_ns
        except InferenceError:
            if any(OPEN in port.shape for port in self.inputs):
                return no_objects()
            raise
        for name, answer in answers.items():
            if np.issubdtype(answer.dtype, np.floating) and not np.isfinite(answer).all():
                raise ModelError("proof_failed", f"{self._reference}: {name} holds NaN or infinity for zeros")
        return no_objects()

    def prepare(self, image: NDArray[np.uint8]) -> object:
        """Refuse a picture. Raises ModelError("load_failed")."""
        del image
        raise ModelError("load_failed", f"{self._reference} takes tensors, no pictures: no line can use it")

    def answer(self, prepared: object, during: AbstractContextManager[object] = _NOBODY) -> Objects:
        """Never called, because `prepare` gives nothing to answer."""
        del prepared, during
        raise ModelError("load_failed", f"{self._reference} takes tensors, no pictures")

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        """Refuse a picture, like `prepare`."""
        return self.answer(self.prepare(image))

    def refuse(self, why: str) -> None:
        """Implement `Model.refuse`."""
        self._refusal = why

    def close(self) -> None:
        """Implement `Model.close`."""
        with self._running:
            session, self._session = self._session, None
        if session is not None:
            session.close()


def _names(ports: tuple[Port, ...]) -> str:
    return ", ".join(f"{port.name!r} {port.datatype} {list(port.shape)}" for port in ports)


def _zeros(port: Port) -> Array:
    """Return zeros, or empty texts, with one element on each open side."""
    shape = [1 if side == OPEN else side for side in port.shape]
    return np.full(shape, "", np.object_) if port.datatype == "BYTES" else np.zeros(shape, DTYPES.get(port.datatype))


def _size_bytes(array: Array) -> int:
    """Return the bytes of an input; each text counts as the four of its length in a block."""
    return 4 * array.size if array.dtype == np.object_ else array.nbytes


def _copy(array: Array) -> Array:
    """Return a copy; texts as objects, whatever the runtime has them in."""
    return np.array(array, np.object_ if array.dtype.kind in "USO" else None)
