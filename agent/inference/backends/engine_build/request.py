"""The request to the sandboxed process that builds an engine, and its answer. Imports no runtime."""

from typing import Final, Literal

import msgspec

from agent.inference.sandbox import Limits

PICTURE: Final = "changeover_picture"
ANSWER: Final = "changeover_answer"
"""Names of an engine's input and output."""
GRAPH: Final = "model.onnx"
HALF_GRAPH: Final = "half.onnx"
BUILT: Final = "built.plan"
TIMINGS: Final = "timings.bin"
PROGRESS: Final = "progress.txt"
ANSWER_FILE: Final = "answer.json"
Precision = Literal["f32", "f16"]


class EngineRequest(msgspec.Struct, frozen=True):
    """A request to build one engine from the file GRAPH in `folder`."""

    folder: str
    imgsz: tuple[int, int]
    takes_bytes: bool
    """The model takes pixels as 0 to 255 instead of 0 to 1."""
    takes_bgr: bool
    head: str
    """Dense head ("anchors" or "objectness") whose best candidates the engine selects; others are left as they are."""
    precision: Precision
    gpu: int
    """Number of the GPU, the only one that the process sees."""
    workspace_bytes: int
    """Most memory that one operation may use beside its tensors."""
    parent: int
    """Process id of the waiting process; the build is killed when that one ends."""
    limits: Limits
    is_trusted: bool


class EngineAnswer(msgspec.Struct, frozen=True):
    """Outcome of a build; `error` is None where the engine's file BUILT was written."""

    error: str | None = None
    is_out_of_memory: bool = False
    tensorrt: str = ""
    """Version of TensorRT that built the engine."""
    candidates: int = 0
    """Number of candidates that the engine outputs; 0: it outputs the whole head."""
