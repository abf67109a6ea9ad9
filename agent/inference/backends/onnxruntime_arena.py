"""A common memory arena for all ONNX Runtime sessions, and the release of its unused memory."""

from functools import cache
from typing import Final

import numpy as np
import onnxruntime as ort

from agent.inference.backends.detector import Untyped

_SAME_AS_REQUESTED: Final = 1
_ERRORS_ONLY: Final = 3
_BYTES: Final = 2  # the kind of a field in protobuf's encoding; numbers are kind 0
_FLOAT: Final = 1


@cache
def share() -> None:
    """Create the common arena once, because eight resident models with one each took twice the memory."""
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED}))


def shrink() -> None:
    """Free the arena's unused memory by a run of an empty graph, because ONNX Runtime frees it only after a run."""
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    _empty_session().run(None, {"x": np.zeros(1, np.float32)}, options)


@cache
def _empty_session() -> Untyped:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    return ort.InferenceSession(identity(), options, providers=["CPUExecutionProvider"])


def identity() -> bytes:
    """Encode the ONNX model y = x of one number as a ModelProto; the field numbers are those of onnx.proto."""
    shape = _field(2, _field(1, _number(1, 1)))
    kind = _field(2, _field(1, _number(1, _FLOAT) + shape))
    node = _field(1, b"x") + _field(2, b"y") + _field(4, b"Identity")
    graph = _field(1, node) + _field(2, b"empty") + _field(11, _field(1, b"x") + kind)
    graph += _field(12, _field(1, b"y") + kind)
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 17))


def _field(number: int, content: bytes) -> bytes:
    """Encode a protobuf field of less than 128 bytes."""
    return bytes((number << 3 | _BYTES, len(content))) + content


def _number(field: int, value: int) -> bytes:
    return bytes((field << 3, value))
