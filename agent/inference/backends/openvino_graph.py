"""Reads an ONNX or IR file as an OpenVINO graph whose input is a canvas, without conversion."""

import math
import sys
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.inference.backends.detector import Untyped
from agent.inference.ends import graph, packs
from agent.inference.yolo.head import Head
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, agreed_names, read_facts
from agent.inference.yolo.scaling import Constant, Step, takes_bytes
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion
from agent.models.literals import MOST_CHARACTERS
from agent.models.model_files import read_sidecar, sidecar_of

# Importing openvino sends a usage event to its maker, unless this module of its own cannot be imported.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None is how an import is refused

import openvino as ov  # noqa: E402 - only after the line above
from openvino import opset13 as ops  # noqa: E402 - as above

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Source", "core", "ov", "precision_of", "read"]

_CHANNELS: Final = 3
_MOST_NUMBERS: Final = 16


@dataclass(frozen=True)
class Source:
    """A model file's graph, whose input is a canvas, with its metadata and output decoder."""

    graph: Untyped
    facts: FileFacts
    head: Head
    shapes: tuple[tuple[int, ...], ...]
    """Shapes of the outputs, in their order."""


@cache
def core() -> Untyped:
    """Return the process's only OpenVINO runtime."""
    return ov.Core()


def precision_of(compiled: Untyped) -> str:
    """Return the precision ("f32", "bf16", "f16") in which a compiled model computes."""
    kind = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    return "bf16" if kind == "bfloat16" else str(kind).replace("float", "f")


def read(version: ModelVersion) -> Source:
    """Read the version's file. Raises ModelError unless a head can decode it, and any exception of the runtime."""
    model = core().read_model(version.path)
    facts = _facts(model, Path(version.path))
    imgsz = _shape_input(version, model, facts)
    names = agreed_names(version, facts)
    outputs = graph.ports_of(model.outputs)
    pack = packs.recognise(version, graph.ports_of(model.inputs), outputs, imgsz, len(names))
    graph.fill_inputs(ops, model, imgsz)
    if pack is not None:
        whole = graph.packed(ops, pack, [model.outputs[at] for at in packs.roles(pack, outputs)], len(names))
        model = ov.Model([ops.result(whole)], model.get_parameters(), "packed")
    facts = replace(facts, takes_bytes=_takes_bytes(model), pack=pack.name if pack else "")
    shapes = tuple(graph.sides_of(output) for output in model.outputs)
    head = Head.of(version, facts, shapes, imgsz)
    if len(head.outputs) < len(shapes):
        model = ov.Model([model.get_results()[number] for number in head.outputs], model.get_parameters(), "read")
        shapes, head = head.shapes, replace(head, outputs=tuple(range(len(head.outputs))))
    return Source(_with_pictures_in(model, head), facts, head, shapes)


def _shape_input(version: ModelVersion, model: Untyped, facts: FileFacts) -> tuple[int, int]:
    ports = graph.ports_of(model.inputs)
    packs.require_known(version, ports)
    picture = model.inputs[packs.picture_of(ports)]
    kind = picture.element_type
    if not (kind.is_real() or kind == ov.Type.u8):
        raise ModelError("load_failed", f"{version.reference}: takes {kind.get_type_name()}, expected float or uint8")
    sides = graph.sides_of(picture)
    if sides[1] not in {_CHANNELS, -1} or sides[0] not in {1, -1}:
        raise ModelError("load_failed", f"{version.reference}: takes {list(sides)}, expected (1, 3, height, width)")
    fixed = (sides[2], sides[3]) if min(sides[2:]) > 0 else None
    imgsz = agreed_imgsz(version, facts, fixed)
    model.reshape({picture: [1, _CHANNELS, *imgsz]})
    return imgsz


def _with_pictures_in(model: Untyped, head: Head) -> Untyped:
    """Add conversions of colour order, scale and layout to the graph, so that its input is a canvas."""
    steps = ov.preprocess.PrePostProcessor(model)
    inner = model.input().element_type
    colours = ov.preprocess.ColorFormat
    tensor = steps.input().tensor()
    tensor.set_element_type(ov.Type.u8).set_layout(ov.Layout("NHWC")).set_color_format(colours.BGR)
    steps.input().model().set_layout(ov.Layout("NCHW"))
    inside = steps.input().preprocess()
    if not head.takes_bgr:
        inside.convert_color(colours.RGB)
    if not head.pixels.takes_bytes:
        inside.convert_element_type(ov.Type.f32).scale(1 / head.pixels.scale)
        if head.pixels.is_normed:
            inside.mean(list(head.pixels.mean)).scale(list(head.pixels.std))
    inside.convert_element_type(inner)
    for number in range(len(head.outputs)):
        steps.output(number).tensor().set_element_type(ov.Type.f32)
    return steps.build()


def _takes_bytes(model: Untyped) -> bool:
    """Return True where the input takes pixels as 0 to 255: as integers, or as floats that the graph scales."""
    if model.input().element_type == ov.Type.u8:
        return True
    followers: dict[str, list[Step]] = defaultdict(list)
    for node in model.get_ops():
        sources = [port.get_source_output() for port in node.inputs()]
        constants = [found for source in sources if (found := _constant(source.get_node())) is not None]
        step = Step(node.get_type_name(), tuple(constants), tuple(map(_name, node.outputs())))
        for source in sources:
            followers[_name(source)].append(step)
    return takes_bytes(_name(model.get_parameters()[0].output(0)), followers)


def _name(port: Untyped) -> str:
    return f"{port.get_node().get_friendly_name()}:{port.get_index()}"


def _constant(node: Untyped) -> Constant | None:
    """Return the numbers of a small floating-point constant, also of one stored in float16; else None."""
    if node.get_type_name() == "Convert":
        node = node.input_value(0).get_node()
    is_small = node.get_type_name() == "Constant" and node.get_element_type().is_real()
    if not is_small or node.get_output_size() != 1 or _count(node) > _MOST_NUMBERS:
        return None
    found: Constant = np.asarray(node.get_data(), np.float64).ravel()
    return found


def _count(node: Untyped) -> int:
    return math.prod(graph.sides_of(node.output(0)))


def _facts(model: Untyped, path: Path) -> FileFacts:
    sidecar = sidecar_of(path) if path.suffix.lower() == ".xml" else None
    if sidecar is not None:
        return read_facts(read_sidecar(sidecar))
    if model.has_rt_info("framework"):  # the metadata of an ONNX file, also in an IR made from it
        return read_facts(_plain(model.get_rt_info("framework")))
    if model.has_rt_info(["model_info", "labels"]):
        labels = str(model.get_rt_info(["model_info", "labels"]).value)
        return read_facts({"names": labels.split() if len(labels) <= MOST_CHARACTERS else None})
    return FileFacts()


def _plain(info: Untyped) -> "Mapping[str, Untyped]":
    values = info.value if hasattr(info, "value") else info
    return {key: value.value if hasattr(value, "value") else value for key, value in dict(values).items()}
