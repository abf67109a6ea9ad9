"""Reads, without a runtime, the task and layout of a model, and refuses an output that no layout can decode."""

from pathlib import Path
from typing import Final

from agent.inference.yolo.layouts import SERVED_WORDS, Shapes, task_of, word_of
from agent.inference.yolo.metadata import FileFacts, agreed_imgsz, agreed_names, read_facts
from agent.inference.yolo.recognition import recognise
from agent.messages.errors import ModelError
from agent.messages.references import ModelReading, ModelVersion
from agent.models import onnx_file

_SIDES: Final = 4


def refusal_of_output(version: ModelVersion) -> ModelError | None:
    """Return the error that a load would raise for the model's output layout; None where no error is known.

    Only an .onnx file with fixed shapes is checked; other checks report an unreadable file.
    """
    if version.layout and version.layout not in SERVED_WORDS:
        words = ", ".join(sorted(SERVED_WORDS))
        what = f'no head is served for layout = "{version.layout}": export the model as one of {words}'
        return ModelError("load_failed", f"{version.reference}: {what}")
    try:
        declared_reading(version)
    except ModelError as error:
        return error
    return None


def prepared_reading(version: ModelVersion, facts: FileFacts, shapes: Shapes, imgsz: tuple[int, int]) -> ModelReading:
    """Return the reading of an artifact by its record. Raises ModelError where the catalog contradicts it."""
    layout = recognise(version, facts, shapes, imgsz, len(agreed_names(version, facts))).layout
    return ModelReading(task_of(layout), word_of(layout), facts.kpt_names)


def declared_reading(version: ModelVersion) -> ModelReading | None:
    """Return the reading of an .onnx file with fixed shapes; None for others. Raises ModelError as a load would."""
    if Path(version.path).suffix.lower() != ".onnx" or version.backend == "ultralytics":
        return None
    try:
        file = onnx_file.read(Path(version.path))
    except (OSError, onnx_file.NotOnnxError):
        return None
    taken, given = [_fixed(sides) for sides in file.inputs], [_fixed(sides) for sides in file.outputs]
    if len(taken) != 1 or len(taken[0]) != _SIDES or not given or not all(given):
        return None
    facts = read_facts(file.metadata)
    imgsz = agreed_imgsz(version, facts, (taken[0][2], taken[0][3]))
    return prepared_reading(version, facts, given, imgsz)


def _fixed(sides: onnx_file.Sides) -> tuple[int, ...]:
    """Return a shape with 1 for an open batch; empty where another side is open."""
    known = tuple(side for side in (1, *sides[1:]) if side)
    return known if len(known) == len(sides) else ()
