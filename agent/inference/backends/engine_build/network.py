"""Adds layers to a parsed network, so that it takes a letterboxed picture and outputs the best candidates."""

from typing import Final

import numpy as np
import tensorrt as trt

from agent.inference.backends.detector import Untyped
from agent.inference.backends.engine_build.request import ANSWER, PICTURE, EngineRequest

MOST_CANDIDATES: Final = 3840
"""TensorRT's own limit for the number of the best values of a row."""
_BOX: Final = 4
_CHANNELS: Final = 3


class Surroundings:
    """Builder of the layers around one network; it keeps their constants, which TensorRT reads until the build ends."""

    def __init__(self, network: Untyped, request: EngineRequest) -> None:
        self._network: Final = network
        self._request: Final = request
        self._constants: Final[list[object]] = []

    def take_pictures(self) -> None:
        """Add layers that convert a picture, uint8 (1, height, width, 3) BGR, to the network's own input.

        Colours and scale are those that the model was trained with.
        """
        network, (height, width) = self._network, self._request.imgsz
        entry = network.get_input(0)
        kind = trt.float32 if entry.dtype == trt.uint8 else entry.dtype
        readers = [
            (layer, at)
            for layer in (network.get_layer(number) for number in range(network.num_layers))
            for at in range(layer.num_inputs)
            if (tensor := layer.get_input(at)) is not None and tensor.name == entry.name
        ]
        tensor = network.add_input(PICTURE, trt.uint8, (1, height, width, _CHANNELS))
        tensor = self._cast(tensor, trt.float32)  # first, because nothing else takes uint8
        planes = network.add_shuffle(tensor)
        planes.first_transpose = trt.Permutation([0, 3, 1, 2])
        tensor = _output(planes)
        if not self._request.takes_bgr:
            shape = (1, _CHANNELS, height, width)
            tensor = _output(network.add_slice(tensor, (0, _CHANNELS - 1, 0, 0), shape, (1, -1, 1, 1)))
        if not self._request.takes_bytes:
            tensor = _output(network.add_elementwise(tensor, self._constant(255.0), trt.ElementWiseOperation.DIV))
        if kind != trt.float32:
            tensor = self._cast(tensor, kind)
        for layer, at in readers:
            layer.set_input(at, tensor)
        network.remove_tensor(entry)

    def leave_candidates(self) -> int:
        """Replace the outputs by one of float32: the best candidates of a dense head, else the first output itself.

        Candidates are (1, 6, count): centre, size, score, class, by falling score. Returns their count; 0 for other
        heads.
        """
        network = self._network
        outputs = [network.get_output(number) for number in range(network.num_outputs)]
        for output in outputs:
            network.unmark_output(output)
        tensor = outputs[0] if outputs[0].dtype == trt.float32 else self._cast(outputs[0], trt.float32)
        count = 0
        shape = tuple(tensor.shape)
        if self._request.head in {"anchors", "objectness"} and min(shape) > 0:
            tensor, count = self._best(tensor, shape)
        elif outputs[0].dtype == trt.float32:  # because an output keeps the name that its layer gave it
            tensor = _output(network.add_identity(tensor))
        tensor.name = ANSWER
        network.mark_output(tensor)
        return count

    def _best(self, tensor: Untyped, shape: tuple[int, ...]) -> tuple[Untyped, int]:
        network = self._network
        if self._request.head == "objectness":  # (1, anchors, 5 + classes)
            turned = network.add_shuffle(tensor)
            turned.first_transpose = trt.Permutation([0, 2, 1])
            tensor, shape = _output(turned), (shape[0], shape[2], shape[1])
        _, rows, anchors = shape
        begin = _BOX + (self._request.head == "objectness")
        boxes = self._rows(tensor, 0, _BOX, anchors)
        most = network.add_topk(self._rows(tensor, begin, rows - begin, anchors), trt.TopKOperation.MAX, 1, 1 << 1)
        scores, classes = most.get_output(0), self._cast(most.get_output(1), trt.float32)
        if begin > _BOX:
            objectness = self._rows(tensor, _BOX, 1, anchors)
            scores = _output(network.add_elementwise(scores, objectness, trt.ElementWiseOperation.PROD))
        count = min(anchors, MOST_CANDIDATES)
        best = network.add_topk(scores, trt.TopKOperation.MAX, count, 1 << 2)
        places = network.add_shuffle(best.get_output(1))
        places.reshape_dims = (count,)
        at = _output(places)
        parts = [
            _output(network.add_gather(boxes, at, 2)),
            best.get_output(0),
            _output(network.add_gather(classes, at, 2)),
        ]
        joined = network.add_concatenation(parts)
        joined.axis = 1
        return _output(joined), count

    def _rows(self, tensor: Untyped, begin: int, count: int, anchors: int) -> Untyped:
        return _output(self._network.add_slice(tensor, (0, begin, 0), (1, count, anchors), (1, 1, 1)))

    def _cast(self, tensor: Untyped, kind: Untyped) -> Untyped:
        return _output(self._network.add_cast(tensor, kind))

    def _constant(self, value: float) -> Untyped:
        numbers = np.full((1, 1, 1, 1), value, np.float32)
        self._constants.append(numbers)
        return _output(self._network.add_constant((1, 1, 1, 1), trt.Weights(numbers)))


def _output(layer: Untyped) -> Untyped:
    if layer is None:
        raise ValueError("TensorRT refuses a layer around the model's own")
    return layer.get_output(0)
