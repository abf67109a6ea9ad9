"""Which runtime serves which file on which device, and from which artifact. Imports no runtime."""

import importlib.util
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from agent.inference.artifacts import key_of
from agent.messages.references import ModelVersion
from agent.processes.installed import version_of

_CHECKPOINT: Final = ".pt"
_GRAPHS: Final = (".onnx", ".xml")
_ON_NVIDIA: Final = "onnxruntime-gpu"
_NVIDIA_NODES: Final = ("/dev/nvidia0", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu")


def backend_of(version: ModelVersion, compute: str = "auto", *, is_prepared: bool = False) -> str:
    """Name the backend that serves `version`: the catalog's choice, else by the file's suffix and the device.

    A checkpoint (.pt) is opened by ultralytics, which needs torch; once it `is_prepared`, another runtime serves what
    was made of it, and torch is not needed any more.
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
