"""Loads models on the CPU, as the reference for the metadata and the outputs of an engine."""

from importlib.util import find_spec
from typing import Final

from agent.inference.backends.detector import Detector
from agent.inference.yolo.head import Head
from agent.inference.yolo.metadata import FileFacts
from agent.messages.references import ModelVersion

PRECISION: Final = "f32"


def load(version: ModelVersion) -> Detector:
    """Load a graph on the CPU, in float32. Raises what `backends.load` raises."""
    if find_spec("openvino"):
        from agent.inference.backends import openvino  # noqa: PLC0415 - one of the two is installed

        return openvino.load_for(version, "cpu", PRECISION)
    from agent.inference.backends import onnxruntime  # noqa: PLC0415 - see above

    return onnxruntime.load_for(version, "cpu", PRECISION)


def facts_of(version: ModelVersion) -> tuple[FileFacts, Head]:
    """Return a file's metadata and the decoder of its output. Raises what `backends.load` raises."""
    if find_spec("openvino"):
        from agent.inference.backends import openvino_graph  # noqa: PLC0415 - see above

        source = openvino_graph.read(version)
        return source.facts, source.head
    from agent.inference.backends import onnxruntime  # noqa: PLC0415 - see above

    return onnxruntime.facts_of(version)
