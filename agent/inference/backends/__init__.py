"""The one protocol behind which every runtime stands. Importing this imports no runtime.

A runtime has its own module beside this one, imported by `load` only when a model needs it.
"""

import importlib
import importlib.util
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from agent.inference.artifacts import Made, key_of
from agent.inference.backends.errors import InferenceError
from agent.inference.places import Places
from agent.inference.yolo.objects import Objects
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

__all__ = [
    "InferenceError",
    "Made",
    "Model",
    "ModelError",
    "Objects",
    "OutOfMemoryError",
    "Prepared",
    "artifact_key",
    "backend_of",
    "load",
    "make",
]

BACKENDS: Final = ("openvino", "onnxruntime", "ultralytics")
_GRAPHS: Final = (".onnx", ".xml")
_NOBODY: Final = nullcontext()


class Prepared(Protocol):
    """A letterboxed picture that waits for its answer: give it to `answer` once, on any thread, or drop it."""


class Model(Protocol):
    """A loaded model. Every method may be called from any thread, concurrently; `close` comes last, and once.

    `names`: the labels, by class index. `imgsz`: height and width of the input in pixels. `backend`: the runtime.
    `places`: how many pictures may be under way together; who brings more gets them answered, at a price in memory.
    """

    @property
    def names(self) -> tuple[str, ...]: ...  # noqa: D102 - said above
    @property
    def imgsz(self) -> tuple[int, int]: ...  # noqa: D102 - said above
    @property
    def backend(self) -> str: ...  # noqa: D102 - said above
    @property
    def places(self) -> Places: ...  # noqa: D102 - said above

    def prepare(self, image: NDArray[np.uint8]) -> Prepared:
        """Letterbox `image`, uint8 (h, w, 3) BGR; after it the caller may overwrite the image."""

    def answer(self, prepared: Prepared, during: AbstractContextManager[object] = _NOBODY) -> Objects:
        """Infer and decode; `during` is entered for the inference alone.

        Raises InferenceError where a retry with the next frame may help, OutOfMemoryError, and
        ModelError("proof_failed") where the candidates hold NaN or infinity, or the output has a wrong shape.
        """

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        """Answer one picture: `prepare` and `answer` in one call."""

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        """Answer one picture as `infer` does, looking at every number of the raw output: for warming up and proving.

        Raises what `answer` raises; ModelError("proof_failed") says what was found.
        """

    def close(self) -> None:
        """Drop everything; the bytes come back once nothing is being answered any more."""


class _BackendModule(Protocol):
    def load(self, version: ModelVersion, compute: str, cache_dir: Path) -> Model: ...
    def make(self, version: ModelVersion, compute: str, folder: Path) -> Made: ...


def backend_of(version: ModelVersion, compute: str = "auto") -> str:
    """Name the backend that serves `version`: the catalog's choice, else by the file's suffix and the device."""
    if version.backend != "auto":
        return version.backend
    suffix = Path(version.path).suffix.lower()
    if suffix not in _GRAPHS:
        return "ultralytics"
    nvidia = compute.partition(":")[0] in {"cuda", "tensorrt"}
    if suffix == ".onnx" and (nvidia or not importlib.util.find_spec("openvino")):
        return "onnxruntime"
    return "openvino"


def load(version: ModelVersion, compute: str, cache_dir: Path) -> Model:
    """Load `version` from its file; takes from a tenth of a second to minutes. It may infer a blank picture, or not.

    `compute` is the device setting (auto, cpu, cuda:0, ...); `cache_dir` holds prepared artifacts and
    what a runtime keeps for itself.
    Raises ModelError ("file_missing", "load_failed", "proof_failed") and OutOfMemoryError; then nothing stays behind.
    """
    backend = backend_of(version, compute)
    if backend not in BACKENDS:
        raise ModelError("load_failed", f"{version.reference}: no backend {backend!r}; there are {', '.join(BACKENDS)}")
    if not Path(version.path).exists():
        raise ModelError("file_missing", f"{version.reference}: there is no file {version.path}")
    return _module(version, backend).load(version, compute, cache_dir)


def artifact_key(version: ModelVersion, compute: str) -> str | None:
    """Name the artifact that `load` takes instead of the version's file where it is there; None where it takes none."""
    return key_of(version, backend_of(version, compute), compute)


def make(version: ModelVersion, compute: str, folder: Path) -> Made:
    """Make, in `folder`, what `load` takes instead of the version's file. Takes seconds, and much memory.

    For versions that have an `artifact_key`. Raises what `load` raises, OSError, and ModelError("proof_failed") where
    what was made answers something else than the file.
    """
    return _module(version, backend_of(version, compute)).make(version, compute, folder)


def _module(version: ModelVersion, backend: str) -> _BackendModule:
    try:
        return cast("_BackendModule", importlib.import_module(f"{__name__}.{backend}"))
    except ImportError as error:
        what = f"{version.reference}: needs the extra: pip install 'changeover[{backend}]' ({error})"
        raise ModelError("load_failed", what) from error
