"""Converts exceptions of runtimes to our errors, with messages that a user understands."""

import errno
import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
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
_LOG: Final = logging.getLogger(__name__)
_CPP: Final = re.compile(
    r"\.(cpp|cc|h|hpp|cu):\d+|\[ONNXRuntimeError\]|Check '|\w::\w|PytorchStreamReader|INTERNAL ASSERT|\bstd::"
)
_ULTRALYTICS_ERROR: Final = "ERROR ❌️ "
_NOT_EXPORTED: Final = "it cannot be exported here (the log has the library's own words): give it as .onnx"
_NO_MEMORY: Final = "the device has no memory for it: lower device.memory_budget, or use a smaller variant"
_UNREADABLE: Final = "its runtime cannot read it (the log has the runtime's own words)"
_FAILED: Final = "its runtime failed on a picture (the log has the runtime's own words)"
_OPERATION: Final = "its runtime has no operation {0}"
_NOTHING: Final = "a part of it takes {0!r}, which nothing gives"

# Runtimes' own words, and what they mean to whoever brought the file.
_PLAIN: Final = (
    (re.compile(r"No conversion rule found for operations: ([^-]\S*?)(?:-\d+)?(?:\s|$)"), _OPERATION),
    (re.compile(r"No Op registered for (\S+) with"), _OPERATION),
    (re.compile(r"Opset (\d+) is under development"), "its ONNX opset {0} is too new: export it with a lower one"),
    (re.compile(r"Unsupported model IR version: (\d+)"), "its ONNX IR version {0} is too new for its runtime"),
    (re.compile(r"Input tensor isn't found for node \"([^\"]*)\""), _NOTHING),
    (re.compile(r"Node input '([^']*)' is not a graph input"), _NOTHING),
    (re.compile(r"\b(?:Unable to read|Incorrect weights|out of bounds)", re.IGNORECASE), "its weights are damaged"),
)


class InferenceError(TransientError):
    """Failure of one frame's inference; the next frame may succeed."""


class NotPreparedError(ModelError):
    """A checkpoint has no artifact yet; once it is prepared, the same load may succeed."""

    def __init__(self, detail: str) -> None:
        super().__init__("load_failed", detail)


class ProcessorError(ModelError):
    """The processor that `compute` names did not start for a model; `faults` say what is missing."""

    def __init__(self, reference: str, compute: str, faults: Iterable[str]) -> None:
        self.faults: Final = "; ".join(faults)
        super().__init__("load_failed", f"{reference}: compute {compute} did not start: {self.faults}")


class FellBackError(ModelError):
    """The GPU that `compute = "auto"` chose did not start; the next load of the same model uses the CPU."""

    def __init__(self, error: ProcessorError) -> None:
        super().__init__("load_failed", f"{error}; the next load of it takes the CPU")


def is_out_of_memory(error: BaseException) -> bool:
    """Return True where a runtime's exception means that memory ran out, by its type or its text."""
    if isinstance(error, MemoryError | OutOfMemoryError):
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    return bool(_OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"))


def brief(error: BaseException) -> str:
    """Format an error as one line of at most 400 characters, because runtimes' messages may be pages long."""
    return one_line(f"{type(error).__name__}: {error}")


def one_line(text: str) -> str:
    """Reduce text of a library to one line of at most 400 printable characters."""
    words = " ".join(text[: 4 * _DETAIL_LIMIT].split())
    return "".join(letter if letter.isprintable() else "?" for letter in words[:_DETAIL_LIMIT])


def plain(error: BaseException) -> str:
    """Return in plain words, for a user, why a runtime refused a model file.

    Text that a runtime's C++ code wrote is logged, and replaced by an explanation.
    """
    words = " ".join(str(error).split())
    if not _is_cpp("load_refused", words):
        return brief(error)
    found = ((pattern.search(words), text) for pattern, text in _PLAIN)
    return next((text.format(*match.groups()) for match, text in found if match), _UNREADABLE)


def plain_of_export(words: str) -> str:
    """Return in plain words, for a user, why a checkpoint's export failed; C++ text is logged instead."""
    return _NOT_EXPORTED if _is_cpp("export_failed", words) else one_line(words.replace(_ULTRALYTICS_ERROR, ""))


def plain_of_memory(words: str) -> str:
    """Return in plain words, for a user, that memory ran out; a library's text is added, C++ text only logged."""
    return _NO_MEMORY if _is_cpp("no_memory", words) else f"{_NO_MEMORY} ({one_line(words)})"


def _is_cpp(event: str, words: str) -> bool:
    """Return True for text of a C++ library, and log that text."""
    words = " ".join(words.split())
    is_cpp = bool(_CPP.search(words))
    if is_cpp:
        _log_once(event, words[: 4 * _DETAIL_LIMIT])
    return is_cpp


@lru_cache(64)
def _log_once(event: str, words: str) -> None:
    """Log a runtime's text once, because a model may fail in the same way on each frame."""
    _LOG.warning("event=%s words=%r", event, words)


class TextsError(ModelError):
    """A model takes or gives texts, with which OpenVINO's CPU plugin damages the memory of the process."""

    def __init__(self, reference: str) -> None:
        super().__init__(
            "load_failed", f"{reference} takes or gives texts, which ONNX Runtime serves, and not OpenVINO"
        )


@contextmanager
def loading(version: ModelVersion) -> Iterator[None]:
    """Run the block, and convert a runtime's exceptions in a load of `version` to ModelError or OutOfMemoryError."""
    try:
        yield
    except ChangeoverError:
        raise
    except Exception as error:  # the edge to a runtime: each raises what it likes
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"{version.reference}: {plain_of_memory(brief(error))}") from error
        raise ModelError("load_failed", f"{version.reference}: {plain(error)}") from error


@contextmanager
def inferring(reference: str) -> Iterator[None]:
    """Run the block, and convert a runtime's exceptions in it to InferenceError or OutOfMemoryError.

    `reference` is the model's.
    """
    try:
        yield
    except ChangeoverError:
        raise
    except Exception as error:  # the edge to a runtime: each raises what it likes
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"{reference}: {plain_of_memory(brief(error))}") from error
        raise InferenceError(
            f"{reference}: {_FAILED if _is_cpp('frame_failed', str(error)) else brief(error)}"
        ) from error
