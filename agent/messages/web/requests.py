"""Messages between the web process and one worker, over a `processes.channel` of their own.

Pictures and tensors cross in the blocks of `agent.processes.slots.request_memory`; a message names a block and what
lies in it. Both sides may be restarted: `Open` and `Opened` begin anew, and whatever was under way before is forgotten.
"""

from typing import Literal

import msgspec

from agent.messages.children import Message
from agent.messages.errors import Reason

Datatype = Literal[
    "BOOL",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "FP16",
    "FP32",
    "FP64",
    "BF16",
    "BYTES",
]
"""Element types of the Open Inference Protocol v2."""


class TensorAt(msgspec.Struct, frozen=True, array_like=True):
    """A tensor in a block: its elements in C order, little-endian; those of BYTES as `byte_elements` has them."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    offset: int
    """First byte in the block; a multiple of 64."""
    bytes: int


class Port(msgspec.Struct, frozen=True):
    """One input or output of a model; a side of -1 is open."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Signature(msgspec.Struct, frozen=True):
    """Inputs and outputs of a model."""

    platform: str
    """Runtime and processor, such as `openvino_cpu`."""
    is_detector: bool
    """Pictures in, objects out; else tensors in and out, by `inputs` and `outputs`."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    task: str = ""
    names: tuple[str, ...] = ()
    """Labels by class index."""
    confidence: float = 0.0
    """Least score of an object, and least value of the parameter of that name."""
    iou: float = 0.0
    imgsz: tuple[int, int] = (0, 0)
    """Height and width of a detector's input in pixels."""
    most_open: int = 0
    """Most elements on the open sides of a request's inputs, as `open_sides` counts them; 0: unknown."""


# ---- web -> worker


class Open(Message, frozen=True):
    """Forget every request before this; answered with Opened of the same `session`."""

    session: int


class InferPicture(Message, frozen=True):
    """Find the objects in a picture, uint8 (height, width, 3) BGR at the start of a block."""

    number: int
    block: int
    reference: str
    """Full reference of a model that is held."""
    height: int
    width: int
    of: tuple[int, int]
    """Height and width of the client's picture, in whose pixels objects are told."""
    deadline_ns: int
    """CLOCK_MONOTONIC; the request is given up then."""
    confidence: float | None = None
    iou: float | None = None


class InferTensors(Message, frozen=True):
    """Infer the tensors in a block."""

    number: int
    block: int
    reference: str
    inputs: tuple[TensorAt, ...]
    outputs: tuple[str, ...]
    """Names of the outputs that are wanted; empty: all."""
    deadline_ns: int


class Release(Message, frozen=True):
    """Unload a model that only requests use; answered with Released."""

    number: int
    reference: str


# ---- worker -> web


class WorkerStarted(Message, frozen=True):
    """A new worker reads its end; whatever the one before it had is lost."""


class Opened(Message, frozen=True):
    """Nothing of an earlier session is under way any more."""

    session: int


class Loading(Message, frozen=True):
    """A model that was asked for is not there yet."""

    number: int
    phase: Literal["queued", "preparing", "loading"]
    eta_ms: float
    """Estimated time left; 0: unknown."""


class Held(Message, frozen=True):
    """The model is resident, proven, and kept for requests, as AskModel `number` wanted."""

    number: int
    reference: str
    signature: Signature


class NotHeld(Message, frozen=True):
    """AskModel or a request `number` has no model: its load failed, or a line took its memory."""

    number: int
    reason: Reason
    detail: str


class Released(Message, frozen=True):
    """The end of Release `number`; `detail` says why the model stays, and is empty where its bytes are back."""

    number: int
    detail: str


class Found(Message, frozen=True):
    """Objects of a picture: JSON of `bytes` at the start of the request's block."""

    number: int
    reference: str
    bytes: int
    infer_ms: float


class Tensors(Message, frozen=True):
    """Outputs, in the request's block."""

    number: int
    reference: str
    outputs: tuple[TensorAt, ...]
    infer_ms: float


Fault = Literal["gone", "busy", "invalid", "failed"]
"""gone: the model is not resident; busy: the lines left no time; invalid: the inputs are wrong; failed: the runtime."""


class NotInferred(Message, frozen=True):
    """A request was not answered."""

    number: int
    fault: Fault
    detail: str


ToRequests = Open | InferPicture | InferTensors | Release
FromRequests = WorkerStarted | Opened | Loading | Held | NotHeld | Released | Found | Tensors | NotInferred
