"""Chooses the runtime of a file on a device, and names its artifact; imports no runtime."""

import importlib.util
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from agent.inference.artifacts.artifact_store import ArtifactStore, key_of
from agent.inference.backends.errors import NotPreparedError
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.processes.package_version import version_of

_CHECKPOINT: Final = ".pt"
_ENGINE: Final = ".engine"  # TensorRT runs what it says; what this device builds of a graph stays in its cache folder
_CODE: Final = (_CHECKPOINT, _ENGINE)
_GRAPHS: Final = (".onnx", ".xml")  # all others count as code: ultralytics reads formats that we do not know
_ON_NVIDIA: Final = "onnxruntime-gpu"
_UNSAFE: Final = "`unsafe = true` in the catalog, for a file that you made yourself"
_NVIDIA_NODES: Final = ("/dev/nvidia0", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu")


def backend_of(version: ModelVersion, compute: str = "auto", *, is_prepared: bool = False) -> str:
    """Name the backend that serves `version`: the catalog's choice, else by the file's suffix and the device.

    A checkpoint (.pt) that is `unsafe` is opened by ultralytics, which needs torch; once it `is_prepared`, another
    runtime serves what was made of it, and torch is not needed any more.
    """
    if is_checkpoint(version):
        return (_runtime_of_checkpoint(version, compute) if is_prepared else None) or "ultralytics"
    if version.backend != "auto":
        return version.backend
    suffix = Path(version.path).suffix.lower()
    if suffix not in _GRAPHS:
        return "ultralytics"
    if suffix == ".onnx" and (_is_nvidia(compute) or not importlib.util.find_spec("openvino")):
        return "onnxruntime"
    return "openvino"


def artifact_key(version: ModelVersion, compute: str) -> str | None:
    """Name the artifact that `load` takes instead of the version's file where it is there; None where it takes none."""
    if not is_checkpoint(version):
        return key_of(version, backend_of(version, compute), compute)
    runtime = _runtime_of_checkpoint(version, compute)
    return key_of(version, runtime, compute, is_graph=_is_for_nvidia(compute)) if runtime else None


def is_checkpoint(version: ModelVersion) -> bool:
    """Say whether the version's file is a pickle, to be exported in the sandbox before anything is made of it."""
    return Path(version.path).suffix.lower() == _CHECKPOINT


def unprepared(versions: Iterable[ModelVersion], compute: str, artifacts: ArtifactStore) -> Iterator[str]:
    """Yield a word on each version that is not served before it is prepared, or never as it is: what to do."""
    for version in versions:
        key = artifact_key(version, compute)
        if artifacts.recorded(key):
            continue
        try:
            require_openable(version, compute)
        except ModelError as error:
            yield str(error)


def require_openable(version: ModelVersion, compute: str) -> None:
    """Refuse a file that runs code when it is read: only what was prepared of it is opened, or who says `unsafe`.

    Raises NotPreparedError where preparing it helps, else ModelError("load_failed") with what to do.
    """
    if version.unsafe or not _runs_code(version):
        return
    if not is_checkpoint(version):
        what = f"{_named(version)} runs code when it is read, and none was built here"
        what += ": use the .onnx that it was built from"
        raise ModelError("load_failed", f"{version.reference}: {what}, or {_UNSAFE}")
    if artifact_key(version, compute) is None:
        raise ModelError("load_failed", f"{version.reference}: {_unprepared(version, compute)}, or {_UNSAFE}")
    words = f"its .pt is not prepared, and is not opened before: `changeover models prepare {version.reference}`"
    raise NotPreparedError(f"{version.reference}: {words}")


def _runs_code(version: ModelVersion) -> bool:
    """Say whether who reads the file may run what it says; ultralytics looks for its formats anywhere in the name."""
    name = Path(version.path).name.lower()
    if name.endswith(_CODE):
        return True
    is_odd = not name.endswith(_GRAPHS) or any(code in name for code in _CODE)
    return backend_of(version) == "ultralytics" and is_odd


def _named(version: ModelVersion) -> str:
    path = Path(version.path)
    suffix = path.suffix.lower()
    if suffix in _GRAPHS:
        return f"to ultralytics {path.name} may be another format, which"
    return f"a {suffix} file" if suffix else "a file without a suffix"


def _unprepared(version: ModelVersion, compute: str) -> str:
    """Say why a checkpoint cannot be prepared here, and what to do."""
    if version.backend == "ultralytics":
        return 'backend = "ultralytics" would open the .pt as it is: leave `backend` out, and it is prepared'
    if _is_for_nvidia(compute):
        return "a .pt is served here once it is prepared, which needs onnxruntime-gpu: install it, or give an .onnx"
    return "a .pt is served once it is prepared, which needs openvino or onnxruntime: install one"


def _runtime_of_checkpoint(version: ModelVersion, compute: str) -> str | None:
    """Name what serves a prepared checkpoint: the catalog's choice, else what is there; None where ultralytics does."""
    if version.backend == "ultralytics":
        return None
    if _is_for_nvidia(compute):
        return "onnxruntime" if _is_installed(_ON_NVIDIA) else None
    if version.backend != "auto":
        return version.backend
    return next((name for name in ("openvino", "onnxruntime") if version_of(name)), None)


def _is_for_nvidia(compute: str) -> bool:
    return _is_nvidia(compute) or (compute == "auto" and _has_nvidia())


def _is_nvidia(compute: str) -> bool:
    return compute.partition(":")[0] in {"cuda", "tensorrt"}


@cache
def _has_nvidia() -> bool:
    """Say whether this device has a GPU of NVIDIA's, by its nodes: a card's, or a Jetson's."""
    return any(Path(node).exists() for node in _NVIDIA_NODES)


@cache
def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
