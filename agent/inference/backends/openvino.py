"""Backend for OpenVINO: ONNX and IR files, and compiled artifacts (blobs), on CPUs."""

from pathlib import Path
from typing import Final

import numpy as np

from agent.inference.artifacts.artifact_store import Made, Opened
from agent.inference.artifacts.mapped_file import MappedFile
from agent.inference.artifacts.profile import Profile
from agent.inference.backends import openvino_graph
from agent.inference.backends.alike import require_alike
from agent.inference.backends.detector import Detector, Untyped
from agent.inference.backends.errors import loading
from agent.inference.backends.openvino_graph import core, ov
from agent.inference.yolo.head import Head, Raw
from agent.inference.yolo.letterbox import Canvas
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelVersion
from agent.processes.package_version import version_of

_BLOB: Final = "model.blob"
_DEVICE: Final = "CPU"


def load(version: ModelVersion, compute: str, cache_dir: Path, precision: str = "") -> Detector:
    """Load an ONNX or IR file; see `backends.load`.

    `precision` is OpenVINO's inference precision ("f32", "bf16", "f16"); empty leaves it to the runtime.
    """
    del cache_dir  # unused, because OpenVINO keeps no files
    return load_for(version, compute, precision)


def load_for(version: ModelVersion, compute: str, precision: str) -> Detector:
    """Load an ONNX or IR file; see `backends.load_for`."""
    del compute  # unused, because `backends.choice` refuses any other processor
    with loading(version):
        return _load_source(version, Profile(precision))


def held_device_bytes() -> int:
    """Return 0, because OpenVINO's GPUs share the host's memory, where the process's pages show it."""
    return 0


def precisions(compute: str) -> tuple[str, ...]:
    """Return the precisions that this processor supports; see `backends.precisions`."""
    del compute  # unused, because artifacts are for CPUs only
    has = core().get_property(_DEVICE, "OPTIMIZATION_CAPABILITIES")
    return ("f32", *(hint for word, hint in (("BF16", "bf16"), ("FP16", "f16")) if word in has))


def make(version: ModelVersion, compute: str, folder: Path, precision: str = "") -> Made:
    """Compile the version's file to a blob in `folder`, with float16 weights, and compare both raw outputs.

    Raises what `load` raises, and ModelError("proof_failed") where the outputs differ.
    """
    del compute  # unused, because `backends.choice` refuses any other processor
    profile = Profile(precision)
    with loading(version):
        source = openvino_graph.read(version)
        ov.save_model(source.graph, folder / "half.xml", compress_to_fp16=True)
        head = source.head
        made = Made(_BLOB, source.facts, head.imgsz, source.shapes, profile)
        del source  # because the weights read next take as much memory again
        compiled = core().compile_model(core().read_model(folder / "half.xml"), _DEVICE, _options(profile))
        with (folder / _BLOB).open("wb") as blob:
            blob.write(compiled.export_model().getbuffer())
        del compiled
        prepared = _import(MappedFile(folder / _BLOB), head, made.imgsz, profile)
        require_alike(version, _load_source(version, profile), prepared)
    return made


def _load_source(version: ModelVersion, profile: Profile) -> Detector:
    source = openvino_graph.read(version)
    compiled = core().compile_model(source.graph, _DEVICE, _options(profile))
    imgsz = source.head.imgsz
    outputs = source.head.outputs
    return Detector("openvino", source.head, imgsz, _Requests(compiled, imgsz, outputs), processor=_processor(compiled))


def restore(head: Head, opened: Opened, compute: str, cache_dir: Path) -> Detector:
    """Import a blob that `make` wrote, with the options of its profile; raises any exception of the runtime."""
    del compute, cache_dir  # unused, because blobs are for CPUs only
    return _import(opened.mapped, head, opened.artifact.imgsz, opened.artifact.profile)


def _import(mapped: MappedFile, head: Head, imgsz: tuple[int, int], profile: Profile) -> Detector:
    """Load a compiled model from `mapped`, where its requests may read weights until the last one is dropped."""
    with mapped.dropping_pages():
        tensor = ov.Tensor(mapped.array, shared_memory=True)
        compiled = core().import_model(tensor, _DEVICE, _options(profile))
    requests = _Requests(compiled, imgsz, head.outputs, mapped)
    return Detector("openvino", head, imgsz, requests, processor=_processor(compiled), profile=profile)


def _processor(compiled: Untyped) -> ModelProcessor:
    """Return the devices that OpenVINO executes a model on."""
    devices = ",".join(compiled.get_property("EXECUTION_DEVICES"))
    return ModelProcessor(devices.lower(), "openvino", version_of("openvino") or "", devices)


class _Requests:
    """Factory of requests, and the only owner of the compiled model.

    Requests do not refer to the compiled model, because dropping it after them would hold the GIL for long.
    """

    def __init__(
        self, compiled: Untyped, imgsz: tuple[int, int], outputs: tuple[int, ...], mapped: MappedFile | None = None
    ) -> None:
        self._compiled: Untyped = compiled
        self._imgsz: Final = imgsz
        self._outputs: Final = outputs
        self._mapped: Final = mapped

    def __call__(self) -> "_Request":
        return _Request(self._compiled, self._imgsz, self._outputs, self._mapped)

    def __del__(self) -> None:
        self._compiled = None  # before the mapping that it may read, whatever order attributes go in


class _Request:
    """An infer request whose input tensor is its canvas; it keeps `mapped` alive, which may hold its weights."""

    def __init__(
        self, compiled: Untyped, imgsz: tuple[int, int], outputs: tuple[int, ...], mapped: MappedFile | None = None
    ) -> None:
        self._outputs: Final = outputs
        self.canvas: Canvas = Canvas(imgsz)
        self._mapped: Final = mapped
        self._request: Untyped = compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self.canvas.pixels[np.newaxis], shared_memory=True))

    def run(self, *, here: bool = False) -> Raw:
        if here:
            self._request.infer()
        else:
            self._request.start_async()  # `infer` would also copy the answer
            self._request.wait()
        return tuple(self._request.get_output_tensor(number).data for number in self._outputs)

    def __del__(self) -> None:
        self._request = None  # before the canvas and the mapping, whatever order attributes go in


def _options(profile: Profile) -> dict[str, str]:
    """Convert a profile to OpenVINO's options; with several requests, OpenVINO divides the cores among them."""
    options = {"PERFORMANCE_HINT": "THROUGHPUT" if profile.requests > 1 else "LATENCY"}
    if profile.requests > 1:
        options["NUM_STREAMS"] = str(profile.requests)
    if profile.threads:
        options["INFERENCE_NUM_THREADS"] = str(profile.threads)
    return options | {"INFERENCE_PRECISION_HINT": profile.precision} if profile.precision else options
