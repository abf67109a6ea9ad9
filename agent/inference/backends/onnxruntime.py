"""Backend for ONNX Runtime: ONNX files on CPUs, and on NVIDIA GPUs by its CUDA provider."""

import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from agent.inference.artifacts.artifact_store import Made, Opened
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import onnxruntime_arena as arena
from agent.inference.backends.alike import require_alike
from agent.inference.backends.detector import UNMEASURED, Detector, Untyped
from agent.inference.backends.errors import ProcessorError, loading
from agent.inference.backends.onnx_steps import steps_of
from agent.inference.ends import arrays, packs
from agent.inference.ends import session as ends
from agent.inference.processors.compute import faults, split
from agent.inference.yolo.head import Head, Raw
from agent.inference.yolo.layouts import Shapes
from agent.inference.yolo.letterbox import Canvas
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, agreed_names, read_facts
from agent.inference.yolo.scaling import takes_bytes
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelVersion

_OPTIMISED: Final = "model.onnx"
_ERRORS_ONLY: Final = 3
_CPU: Final = "CPUExecutionProvider"
_CUDA: Final = "CUDAExecutionProvider"
_SILENT: Final = "no CUDA that starts: the log has ONNX Runtime's own words"
_STARTS: Final = (
    (re.compile(r"assigned to the default CPU EP"), "no CUDA for some of its operations"),
    (re.compile(r"CUDA failure 35\b|driver version is insufficient"), "wrong version of the driver (older than CUDA)"),
    (re.compile(r"CUDA failure (?:38|100)\b|no CUDA-capable device"), "no card (the driver finds none)"),
    (re.compile(r"CUDA failure 101\b|invalid device ordinal"), "no card of this number"),
    (re.compile(r"(lib[\w.]+): cannot open shared object file"), "no {0}"),
    (re.compile(r"cuDNN (?:is not available|is unavailable|library was not found)"), "no cuDNN"),
    (re.compile(r"CUDNN_STATUS_|cudnn failure", re.IGNORECASE), "no working cuDNN"),
    (re.compile(_SILENT), _SILENT),
)
"""Patterns of ONNX Runtime's errors where a GPU does not start, each with our own message."""

ort.disable_telemetry_events()


def load(version: ModelVersion, compute: str, cache_dir: Path) -> Detector:
    """Load an ONNX file; see `backends.load`. Raises ProcessorError where a named GPU does not start."""
    del cache_dir  # unused, because ONNX Runtime keeps no files
    with loading(version):
        session = open_session(version.reference, version.path, compute)
        return _bound(_read(version, session)[1], session, UNMEASURED)


def load_for(version: ModelVersion, compute: str, precision: str) -> Detector:
    """Load an ONNX file on the CPU; see `backends.load_for`. ONNX Runtime computes in the file's own precision."""
    del compute, precision
    return load(version, "cpu", Path())


def facts_of(version: ModelVersion) -> tuple[FileFacts, Head]:
    """Return a file's metadata and the decoder of its output. Raises what `load` raises."""
    with loading(version):
        facts, head, _ = _read(version, ort.InferenceSession(version.path, _options(), providers=[_CPU]))
        return facts, head


def precisions(compute: str) -> tuple[str, ...]:
    """Return the file's own precision alone; see `backends.precisions`."""
    del compute
    return ("",)


def make(version: ModelVersion, compute: str, folder: Path, precision: str = "") -> Made:
    """Write the graph that ONNX Runtime optimised for the CPU into `folder`; see `backends.make`.

    For a GPU the file is copied unchanged, because the CUDA provider compiles it at each load. Not tested on a GPU.
    """
    is_cpu = compute == "cpu"
    with loading(version):
        options = _options()
        if is_cpu:
            options.optimized_model_filepath = str(folder / _OPTIMISED)
        session = open_session(version.reference, version.path, "cpu", options)
        facts, head, shapes = _read(version, session)
        source = _bound(head, session, UNMEASURED)
        if not is_cpu:
            source.close()
            shutil.copyfile(version.path, folder / _OPTIMISED)
        else:
            optimised = _optimised(version.reference, folder / _OPTIMISED)
            require_alike(version, source, _bound(head, optimised, UNMEASURED))
    return Made(_OPTIMISED, facts, head.imgsz, tuple(map(tuple, shapes)), Profile(precision))


def restore(head: Head, opened: Opened, compute: str, cache_dir: Path) -> Detector:
    """Load a graph that `make` wrote, with the options of its profile; raises any exception of the runtime."""
    del cache_dir  # unused, because ONNX Runtime keeps no files
    artifact = opened.artifact
    if compute == "cpu":
        session = _optimised(head.reference, opened.path, artifact.profile)
    else:
        session = open_session(head.reference, str(opened.path), compute)
    return _bound(head, session, artifact.profile)


def open_session(reference: str, path: str, compute: str, options: Untyped = None) -> Untyped:
    """Start a session on the processor that `compute` names. Raises ProcessorError where a GPU does not start.

    ONNX Runtime itself would use the CPU instead, and only log that.
    """
    arena.share()
    options = options or _options()
    kind, index = split(compute)
    if kind != "cuda":
        return ort.InferenceSession(path, options, providers=[_CPU], enable_fallback=0)
    _preload()
    if _CUDA not in ort.get_available_providers():
        raise ProcessorError(reference, compute, faults(compute) or ("CPU wheel of onnxruntime",))
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    with _starting(reference, compute):
        _start_cuda(index)
        return _on_cuda(path, options, index)


@cache
def _start_cuda(index: int) -> None:
    """Start a session of an empty graph on a GPU once, whose failure shows that the GPU and not a model is at fault."""
    _on_cuda(arena.identity(), _options(), index)
    arena.share_on_gpu(index)  # once a session has shown that the provider works


def _on_cuda(model: str | bytes, options: Untyped, index: int) -> Untyped:
    """Start a session on GPU `index`. Raises RuntimeError where ONNX Runtime chose the CPU instead."""
    session = ort.InferenceSession(model, options, providers=[(_CUDA, {"device_id": str(index)})], enable_fallback=0)
    session.disable_fallback()
    if session.get_providers()[0] != _CUDA:
        raise RuntimeError(_SILENT)
    return session


@contextmanager
def _starting(reference: str, compute: str) -> Iterator[None]:
    """Run the block, and convert an exception that says why a GPU did not start to ProcessorError."""
    try:
        yield
    except Exception as error:
        words = str(error)
        found = ((pattern.search(words), ours) for pattern, ours in _STARTS)
        fault = next((ours.format(*match.groups()) for match, ours in found if match), None)
        if fault is None:
            raise
        raise ProcessorError(reference, compute, (fault,)) from error


@cache
def _preload() -> None:
    """Load the CUDA libraries of NVIDIA's Python packages, which the loader does not find by itself."""
    if hasattr(ort, "preload_dlls"):
        with redirect_stdout(sys.stderr):  # because it prints what it misses
            ort.preload_dlls()


def processor_of_session(session: Untyped) -> ModelProcessor:
    """Return the processor that a session computes on."""
    provider = session.get_providers()[0]
    index = session.get_provider_options().get(_CUDA, {}).get("device_id", "0")
    return ModelProcessor(f"cuda:{index}" if provider == _CUDA else "cpu", "onnxruntime", ort.__version__, provider)


def _options() -> Untyped:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.use_env_allocators", "1")
    # because weights are then freed with their session
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


def _optimised(reference: str, path: Path, profile: Profile = UNMEASURED) -> Untyped:
    """Open an optimised graph by its path, because ONNX Runtime reads files by itself."""
    options = _options()
    options.intra_op_num_threads = profile.threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return open_session(reference, str(path), "cpu", options)


def _read(version: ModelVersion, session: Untyped) -> tuple[FileFacts, Head, Shapes]:
    """Return a session's metadata, the decoder of its outputs, and their shapes, or that of the packed one.

    Raises ModelError unless a head can decode them.
    """
    facts = read_facts(session.get_modelmeta().custom_metadata_map)
    imgsz = _input_size(version, session, facts)
    entry, outputs = ends.picture_of(session), session.get_outputs()
    is_bytes = entry.type == "tensor(uint8)" or takes_bytes(entry.name, steps_of(Path(version.path)))
    names = agreed_names(version, facts)
    pack = packs.recognise(version, ends.ports_of(session.get_inputs()), ends.ports_of(outputs), imgsz, len(names))
    facts = replace(facts, takes_bytes=is_bytes, pack=pack.name if pack else "")
    shapes = ends.packed_shapes(session, pack, imgsz, len(names)) if pack else ends.output_shapes(session, imgsz)
    head = Head.of(version, facts, shapes, imgsz)
    for number in () if pack else head.outputs:
        _require_float(outputs[number])
    return facts, head, shapes


def _bound(head: Head, session: Untyped, profile: Profile) -> Detector:
    running = threading.Semaphore(max(1, profile.requests))
    make_request = partial(_Request, session, head, running)
    place = _Place(_gpu_of(session))
    return Detector(
        "onnxruntime",
        head,
        head.imgsz,
        make_request,
        processor=processor_of_session(session),
        on_close=place.close,
        profile=profile,
        count_device=place.bytes,
    )


def held_device_bytes() -> int:
    """Return 0, because ONNX Runtime does not tell what its arena on a GPU holds."""
    return 0


class _Place:
    """Location of a session's buffers: the GPU of that number, or the host's memory where it is None."""

    def __init__(self, gpu: int | None) -> None:
        self._gpu: Final = gpu
        self._is_closed = False

    def bytes(self) -> int | None:
        return 0 if self._gpu is None or self._is_closed else None

    def close(self) -> None:
        self._is_closed = True
        arena.shrink(self._gpu)


def _gpu_of(session: Untyped) -> int | None:
    """Return the number of the GPU that a session computes on; None for the CPU."""
    if session.get_providers()[0] != _CUDA:
        return None
    return int(session.get_provider_options()[_CUDA].get("device_id", "0"))


class _Request:
    """Input and output buffers bound to a session; an output with a variable count of rows is allocated at each run.

    `running` limits the inferences that run at the same time, because more would compete for the session's threads.
    """

    def __init__(self, session: Untyped, head: Head, running: threading.Semaphore) -> None:
        self.canvas: Canvas = Canvas(head.imgsz)
        self._session: Final = session
        self._running: Final = running
        self._planes: Final = range(ends.CHANNELS) if head.takes_bgr else range(ends.CHANNELS - 1, -1, -1)
        self._head: Final = head
        pixels = head.pixels
        self._scales: Final = [
            (pixels.scale / std, mean / std) for mean, std in zip(pixels.mean, pixels.std, strict=True)
        ]
        self._plane: Final = np.empty(head.imgsz, np.uint8)
        self._scaled: Final = np.empty((1, ends.CHANNELS, *head.imgsz), np.float32)
        entry = ends.picture_of(session)
        dtype = ends.DTYPES[entry.type]
        self._input: Final = self._scaled if dtype == np.float32 else np.empty(self._scaled.shape, dtype)
        self._binding: Final = session.io_binding()
        _bind(self._binding.bind_input, entry.name, self._input)
        self._fillers: Final = ends.fillers(session, head.imgsz)  # kept, because the session reads them where they are
        for name, filler in self._fillers.items():
            self._binding.bind_cpu_input(name, filler)
        given = session.get_outputs()
        outputs = [given[at] for at in (packs.roles(head.pack, ends.ports_of(given)) if head.pack else head.outputs)]
        self._names: Final = [output.name for output in outputs]
        self._outputs: Final = [
            np.empty(shape, ends.DTYPES[output.type]) if min(shape) > 0 else None
            for shape, output in zip([(0,)] * len(outputs) if head.pack else head.shapes, outputs, strict=True)
        ]
        for name, array in zip(self._names, self._outputs, strict=True):
            if array is not None:
                _bind(self._binding.bind_output, name, array)
        self._is_open: Final = any(array is None for array in self._outputs)

    def run(self, *, here: bool = False) -> Raw:
        del here  # because ONNX Runtime always computes with the calling thread
        for target, channel in enumerate(self._planes):  # plane by plane, as RGB unless the model takes BGR
            cv2.extractChannel(self.canvas.pixels, channel, self._plane)
            if self._input.dtype == np.uint8:
                np.copyto(self._input[0, target], self._plane)
            else:
                scale, shift = self._scales[target]
                cv2.multiply(self._plane, scale, dst=self._scaled[0, target], dtype=cv2.CV_32F)  # type: ignore[call-overload]
                if shift:
                    self._scaled[0, target] -= shift
        if self._input.dtype == np.float16:
            np.copyto(self._input, self._scaled, casting="same_kind")
        if self._is_open:
            self._bind_anew()
        with self._running:
            self._session.run_with_iobinding(self._binding)
        if self._head.pack is not None:
            answers = [one.numpy() for one in self._binding.get_outputs()]
            return (arrays.packed(self._head.pack, answers, len(self._head.names)),)
        if self._is_open:
            return tuple(one.numpy().astype(np.float32, copy=False) for one in self._binding.get_outputs())
        return tuple(one.astype(np.float32, copy=False) for one in self._outputs if one is not None)

    def _bind_anew(self) -> None:
        """Bind all outputs again, because the runtime would fill the rows of the frame before."""
        self._binding.clear_binding_outputs()
        for name, array in zip(self._names, self._outputs, strict=True):
            if array is None:
                self._binding.bind_output(name, "cpu")
            else:
                _bind(self._binding.bind_output, name, array)


def _bind(bind: Callable[..., None], name: str, array: NDArray[Any]) -> None:
    bind(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def _input_size(version: ModelVersion, session: Untyped, facts: FileFacts) -> tuple[int, int]:
    packs.require_known(version, ends.ports_of(session.get_inputs()))
    entry = ends.picture_of(session)
    if entry.type not in ends.DTYPES:
        raise ModelError("load_failed", f"{version.reference}: takes {entry.type}, expected float or uint8")
    batch, channels, *sides = ends.sides_of(entry.shape)
    if channels not in {ends.CHANNELS, -1} or batch not in {1, -1}:
        raise ModelError("load_failed", f"{version.reference}: takes {entry.shape}, expected (1, 3, height, width)")
    return agreed_imgsz(version, facts, (sides[0], sides[1]) if min(sides) > 0 else None)


def _require_float(output: Untyped) -> None:
    if output.type not in ends.DTYPES or output.type == "tensor(uint8)":
        raise ModelError("load_failed", f"answers {output.type}, expected float")
