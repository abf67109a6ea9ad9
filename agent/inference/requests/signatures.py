"""Inputs and outputs of a loaded model, in the words of the Open Inference Protocol v2."""

from typing import Final

from agent.inference.backends import Model
from agent.inference.backends.tensors.tensor_model import TensorModel
from agent.messages.references import ModelVersion
from agent.messages.web.open_sides import OPEN
from agent.messages.web.requests import Port, Signature

_PICTURE: Final = (Port("image", "UINT8", (OPEN, OPEN, 3)),)
_OBJECTS: Final = (
    Port("boxes", "FP32", (OPEN, 4)),
    Port("scores", "FP32", (OPEN,)),
    Port("classes", "INT32", (OPEN,)),
    Port("labels", "BYTES", (OPEN,)),
)
_WORDS: Final = (Port("scores", "FP32", (OPEN,)), Port("classes", "INT32", (OPEN,)), Port("labels", "BYTES", (OPEN,)))
_FURTHER: Final = Port("objects", "BYTES", (OPEN,))
"""Each object as JSON, where boxes do not say all: polygons, keypoints, corners."""


def signature_of(model: Model, version: ModelVersion) -> Signature:
    """Return the signature of a resident model."""
    platform = f"{model.processor.runtime}_{model.processor.processor}"
    if isinstance(model, TensorModel):
        return Signature(
            platform, is_detector=False, inputs=model.inputs, outputs=model.outputs, most_open=model.most_open
        )
    task = model.reading.task
    outputs = _WORDS if task == "classify" else _OBJECTS if task == "detect" else (*_OBJECTS, _FURTHER)
    return Signature(
        platform,
        is_detector=True,
        inputs=_PICTURE,
        outputs=outputs,
        task=task,
        names=model.names,
        confidence=version.confidence,
        iou=version.iou,
        imgsz=model.imgsz,
    )
