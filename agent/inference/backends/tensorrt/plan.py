"""The file of an engine: a header that says what it was built for, then TensorRT's own plan."""

from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

_MAGIC: Final = b"changeover engine 1\n"
_HEADER_BYTES: Final = 4096  # a page, so that the plan begins at one
_CHUNK_BYTES: Final = 4 << 20


class PlanRefusedError(Exception):
    """The file is no engine for this TensorRT, GPU and driver; it is built again, and never given to TensorRT."""


class BuiltFor(msgspec.Struct, frozen=True):
    """The TensorRT, GPU architecture and driver that an engine was built for."""

    tensorrt: str
    sm: str
    driver: str
    candidates: int
    """Number of best candidates that the engine selects from a dense head; 0: it outputs the whole head."""


class Plan(NamedTuple):
    """An engine's file in memory, split into its header and TensorRT's part."""

    built_for: BuiltFor
    bytes: NDArray[np.uint8]


def write(path: Path, built_for: BuiltFor, plan: Path) -> None:
    """Write the header and the bytes of the file `plan` to `path`. Raises OSError."""
    header = _MAGIC + msgspec.json.encode(built_for)
    with path.open("wb") as target, plan.open("rb") as source:
        target.write(header.ljust(_HEADER_BYTES))
        while chunk := source.read(_CHUNK_BYTES):
            target.write(chunk)


def read(file: NDArray[np.uint8], tensorrt: str, sm: str, driver: str) -> Plan:
    """Split an engine's file. Raises PlanRefusedError unless it was built for this TensorRT, GPU and driver."""
    header = bytes(file[:_HEADER_BYTES])
    if not header.startswith(_MAGIC):
        raise PlanRefusedError("is no engine of ours")
    built_for = msgspec.json.decode(header[len(_MAGIC) :], type=BuiltFor)
    here, there = (tensorrt, sm, driver), (built_for.tensorrt, built_for.sm, built_for.driver)
    if there != here:
        raise PlanRefusedError(f"was built for TensorRT, SM and driver {there}, and here are {here}")
    return Plan(built_for, file[_HEADER_BYTES:])
