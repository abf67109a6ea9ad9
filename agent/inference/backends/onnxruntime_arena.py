"""A common memory arena for all ONNX Runtime sessions of a processor, and the release of its unused memory.

ONNX Runtime's Python API does not report an arena's size, so on a GPU only the arena's limit bounds it. Not tested on a
GPU.
"""

from functools import cache
from typing import Final

import numpy as np
import onnxruntime as ort

from agent.inference import backends
from agent.inference.backends.detector import Untyped

_SAME_AS_REQUESTED: Final = 1
_ERRORS_ONLY: Final = 3
_CUDA: Final = "CUDAExecutionProvider"
_BYTES: Final = 2  # the kind of a field in protobuf's encoding; numbers are kind 0
_FLOAT: Final = 1


@cache
def share() -> None:
    """Create the common arena once, because eight resident models with one each took twice the memory."""
    info = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(info, ort.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED}))


@cache
def share_on_gpu(index: int) -> None:
    """Create the common arena of a GPU once; it refuses memory beyond the budget of models."""
    limit_bytes = backends.DEVICE_LIMIT.bytes
    limit = {"max_mem": limit_bytes} if limit_bytes is not None else {}
    info = ort.OrtMemoryInfo("Cuda", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, index, ort.OrtMemType.DEFAULT)
    config = ort.OrtArenaCfg({"arena_extend_strategy": _SAME_AS_REQUESTED, **limit})
    ort.create_and_register_allocator_v2(_CUDA, info, {"device_id": str(index)}, config)


def shrink(gpu: int | None = None) -> None:
    """Free the arenas' unused memory by running an empty graph, because ONNX Runtime frees it only after a run.

    `gpu`: number of the GPU whose arena is freed with the host's; None: only the host's.
    """
    options = ort.RunOptions()
    where = "cpu:0" if gpu is None else f"cpu:0;gpu:{gpu}"
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", where)
    _empty_session(gpu).run(None, {"x": np.zeros(1, np.float32)}, options)


@cache
def _empty_session(gpu: int | None) -> Untyped:
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.use_env_allocators", "1")
    on_gpu = [] if gpu is None else [(_CUDA, {"device_id": str(gpu)})]
    return ort.InferenceSession(identity(), options, providers=[*on_gpu, "CPUExecutionProvider"])


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
