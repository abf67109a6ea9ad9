"""Loads models through the protocol `Model`, which hides the runtime; importing this imports no runtime.

Each runtime has a module beside this one, which is imported when the first model needs it.
"""

import importlib
import importlib.util
import logging
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, cast

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from agent.inference.artifacts.artifact_store import ArtifactStore, Made, Opened
from agent.inference.backends.choice import (
    artifact_key,
    backend_of,
    compute_now,
    fall_back,
    is_checkpoint,
    missing_for,
    require_openable,
    require_processor,
    takes_engine,
    target_of,
)
from agent.inference.backends.errors import (
    FellBackError,
    InferenceError,
    NotPreparedError,
    ProcessorError,
    TextsError,
    brief,
    is_out_of_memory,
    plain_of_memory,
)
from agent.inference.backends.in_flight import InFlightLimiter
from agent.inference.yolo.head import Head
from agent.inference.yolo.objects import Objects
from agent.messages.errors import ChangeoverError, ModelError, OutOfMemoryError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelReading, ModelVersion
from agent.models.file_faults import require_sound

if TYPE_CHECKING:
    from agent.inference.backends.detector import Detector

__all__ = [
    "DEVICE_LIMIT",
    "FellBackError",
    "InferenceError",
    "Made",
    "Model",
    "ModelError",
    "NotPreparedError",
    "Objects",
    "OutOfMemoryError",
    "Prepared",
    "artifact_key",
    "backend_of",
    "compute_now",
    "held_device_bytes",
    "is_checkpoint",
    "load",
    "load_for",
    "make",
    "precisions",
    "processor_of",
    "require_openable",
    "require_processor",
    "restore",
    "takes_engine",
    "target_of",
]

BACKENDS: Final = ("openvino", "onnxruntime", "ultralytics", "tensorrt")
_NOBODY: Final = nullcontext()
_LOG: Final = logging.getLogger(__name__)


@dataclass
class DeviceLimit:
    """Most bytes of GPU memory that each runtime's own allocator may hold; set once, before the first load.

    None: no limit.
    """

    bytes: int | None = None


DEVICE_LIMIT: Final = DeviceLimit()


class Prepared(Protocol):
    """A letterboxed picture, ready for inference: pass it to `answer` once, on any thread, or drop it."""


class Model(Protocol):
    """A loaded model. Threading: any thread may call any method concurrently; `close` is called last, and once.

    `names`: the labels, by class index. `imgsz`: height and width of the input in pixels. `backend`: the runtime.
    `processor`: what the runtime says that it runs on. `reading`: task and layout of the output.
    `places`: limiter of the frames in flight; pictures beyond its limit are answered, but take more memory.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102 - said above
    @property
    def imgsz(self) -> tuple[int, int]: ...  # noqa: D102 - said above
    @property
    def backend(self) -> str: ...  # noqa: D102 - said above
    @property
    def processor(self) -> ModelProcessor: ...  # noqa: D102 - said above
    @property
    def places(self) -> InFlightLimiter: ...  # noqa: D102 - said above
    @property
    def reading(self) -> ModelReading: ...  # noqa: D102 - said above

    @property
    def device_bytes(self) -> int | None:
        """Bytes of GPU memory that the runtime's allocator holds for the model; None where nothing counts them."""

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Letterbox `image`, uint8 (h, w, 3) BGR; the caller may overwrite the image after the call."""

    def answer(
        self, prepared: Prepared, during: AbstractContextManager[object] = _NOBODY, *, here: bool = False
    ) -> Objects:
        """Infer a prepared picture and decode the output; the context manager `during` wraps the inference only.

        `here`: the calling thread takes part in the inference, so that its priority applies.
        Raises InferenceError where a retry with the next frame may help, OutOfMemoryError where memory ran out, and
        ModelError("proof_failed") where the candidates hold NaN or infinity, or the output has a wrong shape.
        """

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        """Return the objects in `image`: `prepare` and `answer` in one call."""

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        """Infer like `infer`, and check every number of the raw output; used before a model serves.

        The calling thread takes part in the inference, so that the low priority of a loading thread applies. Raises
        what `answer` raises, and ModelError("proof_failed" or "implausible") that names the wrong number.
        """

    def refuse(self, why: str) -> None:
        """Make every later picture fail with ModelError("proof_failed"), because the model's answers are wrong.

        `why` is the error's detail.
        """

    def close(self) -> None:
        """Unload the model; its memory is freed once no inference is in flight."""


class _BackendModule(Protocol):
    def load(self, version: ModelVersion, compute: str, cache_dir: Path) -> Model: ...
    def held_device_bytes(self) -> int: ...


class _GraphModule(_BackendModule, Protocol):
    def load_for(self, version: ModelVersion, compute: str, precision: str) -> "Detector": ...
    def restore(self, head: Head, opened: Opened, compute: str, cache_dir: Path) -> "Detector": ...
    def precisions(self, compute: str) -> tuple[str, ...]: ...
    def make(self, version: ModelVersion, compute: str, folder: Path, precision: str) -> Made: ...


class _EngineModule(_GraphModule, Protocol):
    def make(  # noqa: PLR0913 - one build, spelt out
        self,
        version: ModelVersion,
        compute: str,
        folder: Path,
        precision: str = "",
        *,
        tell: Callable[[str], None] = ...,
        cache_dir: Path | None = None,
    ) -> Made: ...


def load(version: ModelVersion, compute: str, cache_dir: Path) -> Model:
    """Load `version` from its artifact, else from its file; takes from 0.1 s to minutes.

    A load may infer a blank picture. `compute` is the device setting (auto, cpu, cuda:0, ...); `cache_dir` holds
    artifacts and the runtimes' own caches. A file that may run code is opened only where its version is `unsafe`. A GPU
    that `compute` names is refused where it does not start; one that `auto` chose raises FellBackError.

    Raises ModelError ("file_missing", "load_failed", "proof_failed"), NotPreparedError for a checkpoint without an
    artifact, and OutOfMemoryError, and frees all memory first.
    """
    try:
        return _load(version, compute, cache_dir)
    except ProcessorError as error:
        if compute != "auto" or not fall_back(version, error):
            raise
        raise FellBackError(error) from error


def processor_of(model: Model, version: ModelVersion, compute: str) -> ModelProcessor:
    """Return the processor that a loaded model runs on, and what kept `auto` from the GPU."""
    processor = model.processor
    missing = processor.missing or missing_for(version, compute, processor.processor)
    return replace(processor, missing=missing)


def _load(version: ModelVersion, compute: str, cache_dir: Path) -> Model:
    backend = backend_of(version, compute)
    if backend not in BACKENDS:
        raise ModelError("load_failed", f"{version.reference}: no backend {backend!r}; there are {', '.join(BACKENDS)}")
    if not Path(version.path).exists():
        raise ModelError("file_missing", f"{version.reference}: there is no file {version.path}")
    if takes_engine(version, compute):
        require_processor(version, "tensorrt", compute)
    prepared = _load_prepared(version, compute, cache_dir)
    if prepared is not None:
        return prepared
    if takes_engine(version, compute) and not is_checkpoint(version):
        _LOG.warning("event=engine_not_built model=%s served_by=%s until=prepared", version.reference, backend)
    require_openable(version, compute)
    require_sound(version)
    if version.is_tensors:
        return _load_tensors(version, backend, target_of(version, backend, compute))
    return _module(version, backend).load(version, target_of(version, backend, compute), cache_dir)


def _load_tensors(version: ModelVersion, backend: str, compute: str) -> Model:
    """Load a graph file without a head. Raises ModelError for a runtime that gives no raw tensors."""
    if backend not in {"openvino", "onnxruntime"}:
        raise ModelError("load_failed", f"{version.reference}: raw tensors need an .onnx or .xml file, not {backend}")
    _module(version, backend)  # whose missing extra is told in its own words
    module = importlib.import_module(f"{__name__}.tensors.{backend}_tensors")
    try:
        return cast("Model", module.load(version, compute))
    except TextsError:
        is_free = version.backend == "auto" and version.path.lower().endswith(".onnx")
        if not is_free or not importlib.util.find_spec("onnxruntime"):
            raise
    return _load_tensors(version, "onnxruntime", compute)


def held_device_bytes() -> int:
    """Return the bytes of GPU memory that the runtimes' allocators hold in this process, whatever they are used for."""
    modules = [sys.modules.get(f"{__name__}.{name}") for name in BACKENDS]
    return sum(cast("_BackendModule", module).held_device_bytes() for module in modules if module is not None)


def _load_prepared(version: ModelVersion, compute: str, cache_dir: Path) -> "Detector | None":
    """Load the version's artifact, None without one; an artifact that the runtime refuses is removed."""
    key, artifacts = artifact_key(version, compute), ArtifactStore(cache_dir)
    opened = artifacts.open(key) if key else None
    if key is None or opened is None:
        return None
    try:
        return restore(version, opened, compute, cache_dir)
    except ChangeoverError:  # the catalog contradicts the artifact, or memory or the GPU failed; it is itself sound
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise OutOfMemoryError(f"{version.reference}: {plain_of_memory(brief(error))}") from error
        artifacts.discard(key, brief(error))
        return None


def restore(version: ModelVersion, opened: Opened, compute: str, cache_dir: Path) -> "Detector":
    """Load a model from its compiled artifact instead of its source file, with the artifact's runtime options.

    Raises ModelError where the artifact contradicts the catalog, ProcessorError where the processor cannot start, and
    any exception of the runtime unchanged. `cache_dir` holds the runtime's own caches.
    """
    artifact = opened.artifact
    head = Head.of(version, artifact.facts, artifact.shapes, artifact.imgsz)
    module, target = _graph_module(version, compute)
    return module.restore(head, opened, target, cache_dir)


def precisions(version: ModelVersion, compute: str) -> tuple[str, ...]:
    """Return the precisions in which this device can compile `version`; the others are compared with the first."""
    module, target = _graph_module(version, compute)
    return module.precisions(target)


def load_for(version: ModelVersion, compute: str, precision: str) -> "Detector":
    """Load a graph file in a precision, with the runtime that will serve its artifact. Raises what `load` raises."""
    require_sound(version)
    module, target = _graph_module(version, compute)
    return module.load_for(version, target, precision)


def make(  # noqa: PLR0913 - one build, spelt out
    version: ModelVersion,
    compute: str,
    folder: Path,
    precision: str = "",
    *,
    tell: Callable[[str], None] = lambda _: None,
    cache_dir: Path | None = None,
) -> Made:
    """Compile an artifact of `version` in `folder`; takes seconds, and several times the file's size in memory.

    An engine takes minutes: `tell` is called with its progress, and `cache_dir` keeps timings that shorten later
    builds. The version must have an `artifact_key`; for a checkpoint, its `path` is the exported graph. Raises what
    `load` raises, OSError, and ModelError("proof_failed") where the artifact's output differs from the file's.
    """
    require_sound(version)
    module, target = _graph_module(version, compute)
    if takes_engine(version, compute):
        return cast("_EngineModule", module).make(version, target, folder, precision, tell=tell, cache_dir=cache_dir)
    return module.make(version, target, folder, precision)


def _graph_module(version: ModelVersion, compute: str) -> tuple[_GraphModule, str]:
    """Return the module of the artifact's runtime, and the processor that it is to use.

    Raises ProcessorError where the processor cannot start.
    """
    backend = backend_of(version, compute, is_prepared=True)
    require_processor(version, backend, compute)
    return cast("_GraphModule", _module(version, backend)), target_of(version, backend, compute)


def _module(version: ModelVersion, backend: str) -> _BackendModule:
    try:
        return cast("_BackendModule", importlib.import_module(f"{__name__}.{backend}"))
    except ImportError as error:
        what = f"{version.reference}: needs the extra: pip install 'changeover[{backend}]' ({error})"
        raise ModelError("load_failed", what) from error
