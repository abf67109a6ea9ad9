"""Reads, without a runtime, the task and layout of a model, and refuses an output that no layout can decode."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from agent.inference.ends import packs
from agent.inference.yolo.layouts import Shapes, task_of, word_of
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, agreed_names, read_facts
from agent.inference.yolo.recognition import keypoints, recognise
from agent.messages.errors import ModelError
from agent.messages.references import ModelReading, ModelVersion
from agent.models import onnx_file
from agent.models.onnx_file import OPEN, Port

_SIDES: Final = 4


def refusal_of_output(version: ModelVersion) -> ModelError | None:
    """Return the error that a load would raise for the model's output layout; None where no error is known.

    Only an .onnx file with fixed shapes is checked; other checks report an unreadable file.
    """
    try:
        declared_reading(version)
    except ModelError as error:
        return error
    return None


def prepared_reading(version: ModelVersion, facts: FileFacts, shapes: Shapes, imgsz: tuple[int, int]) -> ModelReading:
    """Return the reading of an artifact by its record. Raises ModelError where the catalog contradicts it."""
    classes = len(agreed_names(version, facts))
    if facts.pack:
        packs.require_detecting(version)
        return ModelReading("detect", packs.word_of(packs.Pack[facts.pack]))
    layout, outputs = recognise(version, facts, shapes, imgsz, classes)
    _, names = keypoints(version, facts, layout, shapes[outputs[0]], classes)
    return ModelReading(task_of(layout), word_of(layout), names)


def declared_reading(version: ModelVersion) -> ModelReading | None:
    """Return the reading of an .onnx file with fixed shapes; None for others. Raises ModelError as a load would."""
    if Path(version.path).suffix.lower() != ".onnx" or version.backend == "ultralytics":
        return None
    try:
        file = onnx_file.read(Path(version.path))
    except (OSError, onnx_file.NotOnnxError):
        return None
    taken = [sides for sides in map(_pinned, file.inputs) if len(sides) == _SIDES]
    given = [_pinned(port) for port in file.outputs]
    if len(taken) != 1 or min(taken[0]) < 0 or not given:
        return None
    packs.require_known(version, file.inputs)
    facts = read_facts(file.metadata)
    imgsz = agreed_imgsz(version, facts, (taken[0][2], taken[0][3]))
    pack = packs.recognise(version, file.inputs, file.outputs, imgsz, len(agreed_names(version, facts)))
    if pack is None and not all(sides and min(sides) > 0 for sides in given):
        return None
    return prepared_reading(version, replace(facts, pack=pack.name if pack else ""), given, imgsz)


def _pinned(port: Port) -> tuple[int, ...]:
    """Return a port's shape with 1 for an open batch."""
    return (1, *port.sides[1:]) if port.sides[:1] == (OPEN,) else port.sides
