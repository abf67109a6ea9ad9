"""What OpenVINO reads: a detection model of an ONNX or IR file as a graph that takes a canvas as it is."""

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.inference.backends.detector import Untyped
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, read_facts
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.model_files import read_sidecar, sidecar_of

# Importing openvino sends a usage event to its maker, unless this module of its own cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None is how an import is refused

import openvino as ov  # noqa: E402 - only after the line above

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Source", "core", "ov", "read"]

_CHANNELS: Final = 3
_NCHW: Final = 4


@dataclass(frozen=True)
class Source:
    """A file that was read. `shape` is that of the raw output, -1 where open; `imgsz` is height and width."""

    graph: Untyped
    facts: FileFacts
    imgsz: tuple[int, int]
    shape: tuple[int, ...]


@cache
def core() -> Untyped:
    """Return the one runtime of this process."""
    return ov.Core()


def read(version: ModelVersion) -> Source:
    """Read the version's file. Raises ModelError where it is no detection model, and whatever the runtime raises."""
    model = core().read_model(version.path)
    facts = _facts(model, Path(version.path))
    imgsz = _shape_input(version, model, facts)
    shape = _single_output(version, model)
    return Source(_with_pictures_in(model), facts, imgsz, shape)


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


def _single_output(version: ModelVersion, model: Untyped) -> tuple[int, ...]:
    if len(model.outputs) != 1:
        raise ModelError("load_failed", f"{version.reference}: no detection model: it has {len(model.outputs)} outputs")
    return tuple(side.get_length() if side.is_static else -1 for side in model.output().partial_shape)


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
    sidecar = sidecar_of(path) if path.suffix.lower() == ".xml" else None
    if sidecar:
        return read_facts(read_sidecar(sidecar))
    if model.has_rt_info("framework"):  # the metadata of an ONNX file, also in an IR made from it
        return read_facts(_plain(model.get_rt_info("framework")))
    if model.has_rt_info(["model_info", "labels"]):
        return read_facts({"names": str(model.get_rt_info(["model_info", "labels"]).value).split()})
    return FileFacts()


def _plain(info: Untyped) -> "Mapping[str, Untyped]":
    values = info.value if hasattr(info, "value") else info
    return {key: value.value if hasattr(value, "value") else value for key, value in dict(values).items()}
