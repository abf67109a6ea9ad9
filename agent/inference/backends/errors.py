"""What runtimes say when they fail, brought into the one error tree."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from agent.messages.errors import ChangeoverError, ModelError, OutOfMemoryError, TransientError
from agent.messages.references import ModelVersion

_OUT_OF_MEMORY: Final = re.compile(
    r"out of memory|outofmemory|bad_alloc|cannot allocate memory|can't allocate memory|could not allocate|"
    r"failed to allocate|unable to allocate|not enough memory|alloc_failed|allocation failed|cudaErrorMemoryAllocation|"
    r"OUT_OF_RESOURCES|OUT_OF_(HOST|DEVICE)_MEMORY|MEM_OBJECT_ALLOCATION_FAILURE|"
    r"NVML_SUCCESS == r INTERNAL ASSERT",  # torch on a Jetson
    re.IGNORECASE,
)
_DETAIL_LIMIT: Final = 400


class InferenceError(TransientError):
    """A runtime failed on one frame; the next one may be answered."""


class NotPreparedError(ModelError):
    """A checkpoint has no artifact yet; once it is prepared, the same load may succeed."""

    def __init__(self, detail: str) -> None:
        super().__init__("load_failed", detail)


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether a runtime means that there was no memory, whatever type and words it chose."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return bool(_OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


def brief(error: BaseException) -> str:
    """Bring an error onto one line of bounded length: runtimes answer with pages."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:_DETAIL_LIMIT]


@contextmanager
def loading(version: ModelVersion) -> Iterator[None]:
    """Turn whatever a runtime raises while it loads `version` into ModelError or OutOfMemoryError."""
    try:
        yield
    except ChangeoverError:
        raise
    except Exception as error:  # the edge to a runtime: each raises what it likes
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"{version.reference}: no memory to load it ({brief(error)})") from error
        raise ModelError("load_failed", f"{version.reference}: {brief(error)}") from error


@contextmanager
def inferring(reference: str) -> Iterator[None]:
    """Turn whatever a runtime raises while it infers into InferenceError or OutOfMemoryError."""
    try:
        yield
    except ChangeoverError:
        raise
    except Exception as error:  # the edge to a runtime: each raises what it likes
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"{reference}: no memory for a frame ({brief(error)})") from error
        raise InferenceError(f"{reference}: {brief(error)}") from error
