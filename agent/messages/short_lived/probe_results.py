"""Answers of doctor's probe subprocesses, each one line of JSON on stdout."""

from typing import Final

import msgspec

from agent.messages.errors import Reason
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelReading
from agent.messages.short_lived.supply import SupplyHost

SOFTWARE: Final = "--software"
"""Argument that makes the camera's probe decode without hardware."""


class ProbedCamera(msgspec.Struct, frozen=True):
    """Outcome of opening a source and taking one frame."""

    error: str | None = None
    """None: a frame came, and the other fields are valid."""
    name: str = ""
    """Name of the source, without credentials."""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    """Nominal rate; 0: unknown."""
    seconds: float = 0.0
    """Time to open the source and take the frame."""
    spread: float = 0.0
    """Standard deviation of the frame's pixel values, 0 to 255."""
    picture: str | None = None
    """Path of the saved frame; None: it could not be saved."""
    decoder: str = ""
    """Decoder of a network stream, with the reason where it is not a hardware decoder; empty for other sources."""


class ProbedModel(msgspec.Struct, frozen=True):
    """Outcome of loading and proving a model."""

    error: str | None = None
    """None: the model serves, and the other fields are valid."""
    processor: ModelProcessor | None = None
    """The processor that it ran on."""
    reading: ModelReading | None = None
    """Task and layout of its output."""
    load_ms: float = 0.0
    bytes: int = 0
    """Memory that the model took, without its runtime's own."""
    is_unprepared: bool = False
    """The model is a checkpoint that was not opened, because it must be compiled first."""


class ProbedCompute(msgspec.Struct, frozen=True):
    """The processor that `compute` chooses for an .onnx file on this device."""

    compute: str
    """cpu, cuda:N or tensorrt:N."""
    reason: str
    """Reason of the choice."""
    missing: tuple[str, ...] = ()
    """Each obstacle that keeps the GPU from being used."""
    old_runtime: str | None = None
    """Fault of the installed release of the runtime that would serve; None: there is none."""


class ProbedSandbox(msgspec.Struct, frozen=True):
    """Outcome of trying to break out of the sandbox."""

    error: str | None = None
    """Reason why this device has no sandbox; None: it has one."""
    walls: tuple[str, ...] = ()
    """Sandbox mechanisms that are in force."""
    could: tuple[str, ...] = ()
    """Forbidden actions that succeeded."""


class AskedSource(msgspec.Struct, frozen=True):
    """One source to be reached: a file by its reference, in a registry by its sha256 as well."""

    reference: str
    sha256: str = ""


class SourceRequest(msgspec.Struct, frozen=True):
    """Sources of models to be reached, with what their hosts need."""

    sources: tuple[AskedSource, ...]
    hosts: tuple[SupplyHost, ...] = ()


class ProbedSource(msgspec.Struct, frozen=True):
    """Result of reaching one source; `reason` None: it answers."""

    reference: str
    reason: Reason | None = None
    detail: str = ""
