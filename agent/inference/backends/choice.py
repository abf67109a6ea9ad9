"""Chooses the runtime of a model file, and the key of its artifact; imports no runtime."""

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
    """Return the backend that serves `version`: the catalog's choice, else one for the file's suffix and the device.

    Ultralytics opens a checkpoint (.pt) directly, which needs torch. With `is_prepared`, the backend is the one that
    serves the checkpoint's artifact without torch.
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
    """Return the key of the artifact that `load` prefers to the version's file; None where no artifact is possible."""
    if not is_checkpoint(version):
        return key_of(version, backend_of(version, compute), compute)
    runtime = _runtime_of_checkpoint(version, compute)
    return key_of(version, runtime, compute, is_graph=_is_for_nvidia(compute)) if runtime else None


def is_checkpoint(version: ModelVersion) -> bool:
    """Return True where the version's file is a checkpoint (.pt), a pickle that only the sandbox may open."""
    return Path(version.path).suffix.lower() == _CHECKPOINT


def unprepared(versions: Iterable[ModelVersion], compute: str, artifacts: ArtifactStore) -> Iterator[str]:
    """Yield, for each version that cannot be loaded without an artifact and has none, the reason and the remedy."""
    for version in versions:
        key = artifact_key(version, compute)
        if artifacts.recorded(key):
            continue
        try:
            require_openable(version, compute)
        except ModelError as error:
            yield str(error)


def require_openable(version: ModelVersion, compute: str) -> None:
    """Refuse a file that may run code when it is opened, unless its version is `unsafe`.

    Raises NotPreparedError where a preparation helps, else ModelError("load_failed") with the remedy.
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
    """Return True where opening the file may run its code; ultralytics finds a format anywhere in a file's name."""
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
    """Return the reason why a checkpoint cannot be prepared on this device, with the remedy."""
    if version.backend == "ultralytics":
        return 'backend = "ultralytics" would open the .pt as it is: leave `backend` out, and it is prepared'
    if _is_for_nvidia(compute):
        return "a .pt is served here once it is prepared, which needs onnxruntime-gpu: install it, or give an .onnx"
    return "a .pt is served once it is prepared, which needs openvino or onnxruntime: install one"


def _runtime_of_checkpoint(version: ModelVersion, compute: str) -> str | None:
    """Return the runtime for a checkpoint's artifact: the catalog's choice, else an installed one; None without one."""
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
    """Return True where this device has the device node of an NVIDIA card or a Jetson."""
    return any(Path(node).exists() for node in _NVIDIA_NODES)


@cache
def _is_installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False
