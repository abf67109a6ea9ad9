"""Packs the ends of an OpenVINO graph: split outputs to one, and inputs beside the picture to constants."""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from agent.inference.ends.packs import FLAT_COLUMNS, Pack, filled_shape, picture_of
from agent.models.onnx_file import OPEN, Port

Untyped: TypeAlias = Any  # an object of the runtime, which ships no types

_ROWS: Final = 1  # axis of the rows


def ports_of(ports: Sequence[Untyped]) -> list[Port]:
    """Describe a graph's inputs or outputs."""
    return [Port(_name(port), sides_of(port), port.element_type.is_integral_number()) for port in ports]


def fill_inputs(ops: Untyped, graph: Untyped, imgsz: tuple[int, int]) -> None:
    """Replace each input beside the picture by a constant of ones, in place; `ops` is the runtime's opset."""
    ports = ports_of(graph.inputs)
    picture = picture_of(ports)
    for number, parameter in enumerate(list(graph.get_parameters())):
        if number != picture:
            ones = np.ones(filled_shape(ports[number], imgsz), parameter.get_element_type().to_dtype())
            parameter.output(0).replace(ops.constant(ones).output(0))
            graph.remove_parameter(parameter)


def packed(ops: Untyped, pack: Pack, outputs: Sequence[Untyped], classes: int) -> Untyped:
    """Return a node of float32 that packs the outputs, which come in the order of `packs.roles`."""
    nodes = [ops.convert(output.node.input_value(0), np.float32) for output in outputs]
    if pack is Pack.SIZED:
        labels, boxes, scores = nodes
        return ops.concat([boxes, _column(ops, scores), _column(ops, labels)], 2)
    if pack is Pack.COUNTED:
        count, boxes, scores, labels = nodes
        rows = ops.concat([boxes, _column(ops, scores), _column(ops, labels)], 2)
        return _counted(ops, rows, count)
    if pack in FLAT_COLUMNS:
        picked = ops.gather(nodes[0], np.array(FLAT_COLUMNS[pack], np.int64), np.int64(1))
        return ops.unsqueeze(picked, np.int64(0))
    boxes, numbers = nodes
    if pack is Pack.CORNERS:
        first, last = _columns(ops, boxes, 0, 2), _columns(ops, boxes, 2, 4)
        middle = ops.multiply(ops.add(first, last), np.float32(0.5))
        whole = ops.concat([middle, ops.subtract(last, first), numbers], 2)
        return ops.transpose(whole, np.array([0, 2, 1], np.int64))
    if pack is Pack.SOFTMAX:
        return ops.concat([boxes, _columns(ops, ops.softmax(numbers, 2), 0, classes)], 2)
    return ops.concat([boxes, ops.sigmoid(numbers)], 2)


def _counted(ops: Untyped, rows: Untyped, count: Untyped) -> Untyped:
    """Set the rows behind the count to zeros, whatever they hold."""
    length = ops.squeeze(ops.gather(ops.shape_of(rows), np.array([_ROWS], np.int64), np.int64(0)), np.int64(0))
    numbers = ops.range(np.int64(0), length, np.int64(1), "f32")
    is_counted = ops.less(numbers, ops.reshape(count, np.array([1], np.int64), special_zero=False))
    return ops.select(ops.unsqueeze(is_counted, np.array([0, 2], np.int64)), rows, np.float32(0))


def _column(ops: Untyped, flat: Untyped) -> Untyped:
    return ops.unsqueeze(flat, np.int64(2))


def _columns(ops: Untyped, node: Untyped, start: int, stop: int) -> Untyped:
    at = [np.array([number], np.int64) for number in (start, stop, 1, 2)]
    return ops.slice(node, *at)


def _name(port: Untyped) -> str:
    """Return the shortest name of a port; empty where it has none."""
    return min(port.get_names(), key=len, default="")


def sides_of(port: Untyped) -> tuple[int, ...]:
    """Return a port's shape with OPEN for each side that is left open; empty where even their count is."""
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else OPEN for side in shape)
