"""ONNX Runtime: ONNX files, with its providers (CUDA, TensorRT, ...) as a matter of configuration."""

import logging
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from agent.inference.backends.detector import Detector, Untyped
from agent.inference.backends.errors import loading
from agent.inference.yolo.head import Head
from agent.inference.yolo.letterbox import Canvas
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, read_facts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_log: Final = logging.getLogger(__name__)
_NCHW: Final = 4
_CHANNELS: Final = 3
_ERRORS_ONLY: Final = 3
_SAME_AS_REQUESTED: Final = 1
_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
}
_CPU: Final = "CPUExecutionProvider"

Provider = tuple[str, dict[str, str]]

ort.disable_telemetry_events()


def load(version: ModelVersion, compute: str, cache_dir: Path) -> Detector:
    """Load an ONNX file; see `backends.load`. TensorRT keeps the engines that it builds in `cache_dir`."""
    providers = _available(version, wanted_providers(compute, cache_dir))
    with loading(version):
        _share_arena()
        session = ort.InferenceSession(version.path, _options(), providers=providers)
        got = session.get_providers()
        if got[0] != providers[0][0]:
            _log.warning("model=%s provider=%s did not start; running on %s", version.reference, providers[0][0], got)
        facts = read_facts(session.get_modelmeta().custom_metadata_map)
        imgsz = _input_size(version, session, facts)
        head = Head.of(version, facts, _output_shape(version, session, imgsz))
    return Detector("onnxruntime", head, imgsz, partial(_Request, session, imgsz, head.shape))


def wanted_providers(compute: str, cache_dir: Path) -> list[Provider]:
    """Translate the device setting (auto, cpu, cuda:N, tensorrt:N, or a provider's own name), CPU always last."""
    kind, _, index = compute.partition(":")
    device = {"device_id": index or "0"}
    cuda: Provider = ("CUDAExecutionProvider", device)
    engines = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_dir / "tensorrt")}
    chains: dict[str, list[Provider]] = {
        "cpu": [],
        "cuda": [cuda],
        "tensorrt": [("TensorrtExecutionProvider", device | engines | {"trt_fp16_enable": "1"}), cuda],
    }
    if kind == "auto":
        kind = "cuda" if cuda[0] in ort.get_available_providers() else "cpu"
    return [*chains.get(kind, [(compute, {})]), (_CPU, {})]


class _Request:
    """Buffers bound to a session: nothing is allocated for a frame."""

    def __init__(self, session: Untyped, imgsz: tuple[int, int], shape: tuple[int, ...]) -> None:
        self.canvas: Canvas = Canvas(imgsz)
        self._session: Final = session
        self._plane: Final = np.empty(imgsz, np.uint8)
        self._scaled: Final = np.empty((1, _CHANNELS, *imgsz), np.float32)
        dtype = _DTYPES[session.get_inputs()[0].type]
        self._input: Final = self._scaled if dtype == np.float32 else np.empty(self._scaled.shape, dtype)
        self._output: Final = np.empty(shape, _DTYPES[session.get_outputs()[0].type])
        self._binding: Final = session.io_binding()
        name, array = session.get_inputs()[0].name, self._input
        self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        name, array = session.get_outputs()[0].name, self._output
        self._binding.bind_output(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(self) -> NDArray[np.float32]:
        for channel in range(_CHANNELS):  # BGR to RGB, plane by plane
            cv2.extractChannel(self.canvas.pixels, _CHANNELS - 1 - channel, self._plane)
            cv2.multiply(self._plane, 1 / 255, dst=self._scaled[0, channel], dtype=cv2.CV_32F)  # type: ignore[call-overload]
        if self._input is not self._scaled:
            np.copyto(self._input, self._scaled, casting="same_kind")
        self._session.run_with_iobinding(self._binding)
        return self._output.astype(np.float32, copy=False)


@cache
def _share_arena() -> None:
    """One arena for all sessions: with one each, eight resident models took twice the memory."""
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED}))


def _options() -> Untyped:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.add_session_config_entry("session.use_env_allocators", "1")
    return options


def _available(version: ModelVersion, wanted: list[Provider]) -> list[Provider]:
    have = ort.get_available_providers()
    for name, _ in wanted:
        if name not in have:
            _log.warning("model=%s provider=%s is not in this onnxruntime; passed over", version.reference, name)
    return [provider for provider in wanted if provider[0] in have]


def _input_size(version: ModelVersion, session: Untyped, facts: FileFacts) -> tuple[int, int]:
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != _NCHW or inputs[0].type not in _DTYPES:
        raise ModelError("load_failed", f"{version.reference}: no detection model: its input is not one float picture")
    batch, channels, *sides = (side if isinstance(side, int) else -1 for side in inputs[0].shape)
    if channels not in {_CHANNELS, -1} or batch not in {1, -1}:
        raise ModelError("load_failed", f"{version.reference}: takes {inputs[0].shape}, expected (1, 3, height, width)")
    return agreed_imgsz(version, facts, (sides[0], sides[1]) if min(sides) > 0 else None)


def _output_shape(version: ModelVersion, session: Untyped, imgsz: tuple[int, int]) -> list[int]:
    """Return the output's shape; where the file leaves it open, one run tells."""
    outputs = session.get_outputs()
    if len(outputs) != 1 or outputs[0].type not in _DTYPES:
        raise ModelError("load_failed", f"{version.reference}: no detection model: it has {len(outputs)} outputs")
    shape = outputs[0].shape
    if all(isinstance(side, int) for side in shape):
        return list(shape)
    dtype = _DTYPES[session.get_inputs()[0].type]
    picture = np.zeros((1, _CHANNELS, *imgsz), dtype)
    return list(session.run(None, {session.get_inputs()[0].name: picture})[0].shape)
