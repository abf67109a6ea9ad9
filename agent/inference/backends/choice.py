"""Chooses the runtime of a model file, and the key of its artifact; imports no runtime."""

import importlib.util
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from agent.inference.artifacts.artifact_store import ArtifactStore, key_of
from agent.inference.backends.errors import NotPreparedError, ProcessorError
from agent.inference.cuda.identity import identity_of
from agent.inference.processors.compute import Choice, choose, faults, split
from agent.messages.errors import DeviceMissingError, ModelError
from agent.messages.references import ModelVersion
from agent.processes.package_version import version_of

_CHECKPOINT: Final = ".pt"
_ENGINE: Final = ".engine"  # TensorRT runs what it says; what this device builds of a graph stays in its cache folder
_CODE: Final = (_CHECKPOINT, _ENGINE)
ENGINE_PRECISIONS: Final = ("f32", "f16")
"""Precisions in which an engine is built; the fastest whose detections match the source's is kept."""
_GRAPHS: Final = (".onnx", ".xml")  # all others count as code: ultralytics reads formats that we do not know
_UNSAFE: Final = "`unsafe = true` in the catalog, for a file that you made yourself"
_GPUS: Final = ("cuda", "tensorrt")
_CPU_ONLY: Final = "no GPU in OpenVINO (leave `backend` out, and give an .onnx)"
_OTHER_BACKEND: Final = "no TensorRT in onnxruntime (leave `backend` out)"
_NOT_BUILT: Final = "its TensorRT engine is not built; the first load after that uses it"
_fell_back: Final[dict[ModelVersion, str]] = {}
"""Models for which the GPU that `auto` chose did not start, each with the reason."""


def backend_of(version: ModelVersion, compute: str = "auto", *, is_prepared: bool = False) -> str:
    """Return the backend that serves `version`: the catalog's choice, else one for the file's suffix and the device.

    Ultralytics opens a checkpoint (.pt) directly, which needs torch. With `is_prepared`, the backend is the one that
    serves the checkpoint's artifact without torch. The same holds for a graph and its TensorRT engine.
    """
    if takes_engine(version, compute):
        if is_prepared:
            return "tensorrt"
        compute = compute_until_built(compute)
    if is_checkpoint(version):
        return (_runtime_of_checkpoint(version, compute) if is_prepared else None) or "ultralytics"
    if version.backend != "auto":
        return version.backend
    suffix = Path(version.path).suffix.lower()
    if suffix not in _GRAPHS:
        return "ultralytics"
    kind, _ = split(_chosen(version, compute).compute)
    if suffix == ".onnx" and (kind == "cuda" or not importlib.util.find_spec("openvino")):
        return "onnxruntime"
    return "openvino"


def artifact_key(version: ModelVersion, compute: str) -> str | None:
    """Return the key of the artifact that `load` prefers to the version's file; None where no artifact is possible."""
    if version.is_tensors:
        return None
    if takes_engine(version, compute):
        return _engine_key(version, compute)
    if not is_checkpoint(version):
        backend = backend_of(version, compute)
        return key_of(version, backend, target_of(version, backend, compute))
    runtime = _runtime_of_checkpoint(version, compute)
    if runtime is None:
        return None
    target = target_of(version, runtime, compute)
    return key_of(version, runtime, target, is_graph=split(target)[0] == "cuda")


def target_of(version: ModelVersion, backend: str, compute: str) -> str:
    """Return the processor that `backend` is asked to use; only ultralytics gets `auto`, which torch resolves."""
    if backend == "ultralytics":
        return compute
    if compute == "auto" and backend == "openvino":
        return "cpu"
    if takes_engine(version, compute) and backend != "tensorrt":
        return compute_until_built(compute)
    return _chosen(version, compute).compute


def missing_for(version: ModelVersion, compute: str, processor: str) -> str | None:
    """Return what kept a model on the CPU: under `auto`, or until its engine is built.

    None where nothing did, or the catalog chose its runtime.
    """
    if processor == "cpu" and takes_engine(version, compute):
        return _NOT_BUILT
    if compute != "auto" or processor != "cpu":
        return None
    chosen = _chosen(version, compute)
    if chosen.missing:
        return "; ".join(chosen.missing)
    is_passed_over = chosen.compute != "cpu" and version.backend == "auto"
    return f"an .xml is for the CPU: an .onnx would run on {chosen.compute}" if is_passed_over else None


def fall_back(version: ModelVersion, error: ProcessorError) -> bool:
    """Have `auto` choose the CPU for `version` for the rest of this process; return False where it had before."""
    if version in _fell_back:
        return False
    _fell_back[version] = error.faults
    return True


def compute_now(version: ModelVersion, compute: str) -> str:
    """Return the device setting for another process, which does not know what fell back to the CPU in this one."""
    return "cpu" if compute == "auto" and version in _fell_back else compute


def require_processor(version: ModelVersion, backend: str, compute: str) -> None:
    """Raise ProcessorError where `compute` names a GPU that cannot start.

    Ultralytics is not checked here, because it refuses by itself, once torch is imported.
    """
    kind, _ = split(compute)
    if kind not in _GPUS or backend == "ultralytics":
        return
    found = faults(compute)
    if takes_engine(version, compute):  # also while another runtime serves until the engine is built
        backend = "tensorrt"
    if backend == "openvino":
        found = (_CPU_ONLY,)
    elif backend == "onnxruntime" and kind == "tensorrt":
        found = (_OTHER_BACKEND,)
    elif backend == "tensorrt" and not found:
        found = tuple(_card_faults(compute))
    if found:
        raise ProcessorError(version.reference, compute, found)


def _card_faults(compute: str) -> Iterator[str]:
    """Yield the driver's reason why it cannot start a GPU; nothing where it can."""
    try:
        identity_of(split(compute)[1])
    except DeviceMissingError as error:
        yield str(error)


def _chosen(version: ModelVersion, compute: str) -> Choice:
    fault = _fell_back.get(version) if compute == "auto" else None
    return choose(compute) if fault is None else Choice("cpu", "the GPU did not start", (fault,))


def takes_engine(version: ModelVersion, compute: str) -> bool:
    """Return True where the device setting asks for a TensorRT engine, and one can be built of the version's file."""
    is_source = Path(version.path).suffix.lower() in {".onnx", _CHECKPOINT}
    is_free = version.backend == "auto" and not version.is_tensors
    return split(compute)[0] == "tensorrt" and is_source and is_free


def compute_until_built(compute: str) -> str:
    """Return the processor that serves until an engine is built: the GPU by CUDA, else the CPU."""
    gpu = f"cuda:{split(compute)[1]}"
    return "cpu" if faults(gpu) else gpu


def _engine_key(version: ModelVersion, compute: str) -> str | None:
    try:
        gpu = identity_of(split(compute)[1])
    except DeviceMissingError:
        return None
    return key_of(version, "tensorrt", compute, " ".join(ENGINE_PRECISIONS), device=f"sm{gpu.sm} {gpu.driver}")


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

    Raises NotPreparedError where preparing the model helps, else ModelError("load_failed") with the remedy, and
    ProcessorError for a GPU that cannot start.
    """
    if version.unsafe or not _runs_code(version):
        require_processor(version, backend_of(version, compute), compute)
        return
    if not is_checkpoint(version):
        what = f"{_named(version)} runs code when it is read, and none was built here"
        what += ": use the .onnx that it was built from"
        raise ModelError("load_failed", f"{version.reference}: {what}, or {_UNSAFE}")
    require_processor(version, backend_of(version, compute, is_prepared=True), compute)
    if artifact_key(version, compute) is None:
        raise ModelError("load_failed", f"{version.reference}: {_unprepared(version)}, or {_UNSAFE}")
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


def _unprepared(version: ModelVersion) -> str:
    """Return the reason why a checkpoint cannot be prepared on this device, with the remedy."""
    if version.backend == "ultralytics":
        return 'backend = "ultralytics" would open the .pt as it is: leave `backend` out, and it is prepared'
    return "a .pt is served once it is prepared, which needs openvino or onnxruntime: install one"


def _runtime_of_checkpoint(version: ModelVersion, compute: str) -> str | None:
    """Return the runtime for a checkpoint's artifact: the catalog's choice, else an installed one; None without one."""
    if version.backend == "ultralytics":
        return None
    if version.backend != "auto":
        return version.backend
    kind, _ = split(_chosen(version, compute).compute)
    if kind in _GPUS:
        return "tensorrt" if kind == "tensorrt" else "onnxruntime"
    return next((name for name in ("openvino", "onnxruntime") if version_of(name)), None)
