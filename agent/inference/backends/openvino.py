"""OpenVINO: ONNX and IR files on CPUs, Intel GPUs and NPUs."""

import sys
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from agent.inference.backends.detector import Detector, Untyped
from agent.inference.backends.errors import loading
from agent.inference.yolo.head import Head
from agent.inference.yolo.letterbox import Canvas
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, read_facts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

# Importing openvino sends a usage event to its maker, unless this module of its own cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None is how an import is refused

import openvino as ov  # noqa: E402 - only after the line above

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHANNELS: Final = 3
_NCHW: Final = 4


def load(version: ModelVersion, compute: str, cache_dir: Path, precision: str = "") -> Detector:
    """Load an ONNX or IR file; see `backends.load`.

    `precision` is OpenVINO's inference precision ("f32", "bf16", "f16"); empty leaves it to the runtime.
    """
    del cache_dir  # nothing is kept yet: a blob in there would be trusted more than the file whose sha256 is known
    device = _device(version, compute)
    with loading(version):
        model = _core().read_model(version.path)
        facts = _facts(model, Path(version.path))
        imgsz = _shape_input(version, model, facts)
        head = Head.of(version, facts, _single_output(version, model))
        compiled = _core().compile_model(_with_pictures_in(model), device, _options(precision))
    return Detector("openvino", head, imgsz, partial(_Request, compiled, imgsz))


class _Request:
    """An infer request whose input is its canvas."""

    def __init__(self, compiled: Untyped, imgsz: tuple[int, int]) -> None:
        self.canvas: Canvas = Canvas(imgsz)
        self._request: Final = compiled.create_infer_request()
        self._request.set_input_tensor(ov.Tensor(self.canvas.pixels[np.newaxis], shared_memory=True))

    def run(self) -> NDArray[np.float32]:
        self._request.infer()
        raw: NDArray[np.float32] = self._request.get_output_tensor().data
        return raw


@cache
def _core() -> Untyped:
    return ov.Core()


def _device(version: ModelVersion, compute: str) -> str:
    device = "CPU" if compute in {"auto", "cpu"} else compute.upper()
    if device.partition(":")[0].partition(".")[0] not in {"AUTO", "HETERO", "MULTI", *_core().available_devices}:
        have = ", ".join(_core().available_devices)
        raise ModelError("load_failed", f"{version.reference}: compute is {compute!r}, and OpenVINO here has {have}")
    return device


def _options(precision: str) -> dict[str, str]:
    options = {"PERFORMANCE_HINT": "LATENCY"}
    return options | {"INFERENCE_PRECISION_HINT": precision} if precision else options


def _shape_input(version: ModelVersion, model: Untyped, facts: FileFacts) -> tuple[int, int]:
    if len(model.inputs) != 1 or len(model.input().partial_shape) != _NCHW:
        raise ModelError("load_failed", f"{version.reference}: no detection model: its input is not one picture")
    sides = [side.get_length() if side.is_static else -1 for side in model.input().partial_shape]
    if sides[1] not in {_CHANNELS, -1}:
        raise ModelError("load_failed", f"{version.reference}: takes {sides}, expected (1, 3, height, width)")
    fixed = (sides[2], sides[3]) if min(sides[2:]) > 0 else None
    imgsz = agreed_imgsz(version, facts, fixed)
    model.reshape([1, _CHANNELS, *imgsz])
    return imgsz


def _single_output(version: ModelVersion, model: Untyped) -> list[int]:
    if len(model.outputs) != 1:
        raise ModelError("load_failed", f"{version.reference}: no detection model: it has {len(model.outputs)} outputs")
    return [side.get_length() if side.is_static else -1 for side in model.output().partial_shape]


def _with_pictures_in(model: Untyped) -> Untyped:
    """Fold colour order, scale and layout into the graph, so that it takes a canvas as it is."""
    steps = ov.preprocess.PrePostProcessor(model)
    inner = model.input().element_type
    tensor = steps.input().tensor()
    tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(ov.preprocess.ColorFormat.BGR)
    steps.input().model().set_layout(ov.Layout("NCHW"))
    to_float = steps.input().preprocess().convert_color(ov.preprocess.ColorFormat.RGB).convert_element_type(ov.Type.f32)
    to_float.scale(255.0).convert_element_type(inner)
    steps.output().tensor().set_element_type(ov.Type.f32)
    return steps.build()


def _facts(model: Untyped, path: Path) -> FileFacts:
    sidecar = path.parent / "metadata.yaml"  # beside an IR that ultralytics exported
    if path.suffix.lower() == ".xml" and sidecar.exists():
        import yaml  # type: ignore[import-untyped] # noqa: PLC0415 - only such an export needs it

        return read_facts(yaml.safe_load(sidecar.read_text()) or {})
    if model.has_rt_info("framework"):  # the metadata of an ONNX file, also in an IR made from it
        return read_facts(_plain(model.get_rt_info("framework")))
    if model.has_rt_info(["model_info", "labels"]):
        return read_facts({"names": str(model.get_rt_info(["model_info", "labels"]).value).split()})
    return FileFacts()


def _plain(info: Untyped) -> "Mapping[str, Untyped]":
    values = info.value if hasattr(info, "value") else info
    return {key: value.value if hasattr(value, "value") else value for key, value in dict(values).items()}
