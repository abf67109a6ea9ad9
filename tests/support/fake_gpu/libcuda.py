"""A fake libcuda: C functions with the prototypes of cuda.h, over host memory and streams that run when waited for.

It is stricter than a GPU: what touches memory that is not allocated breaks the context (error 700), as does an
execution on scratch memory that another one uses. Work in a stream is executed at the next wait, never before.
"""

import ctypes
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.fake_gpu.cuda_header import PROTOTYPES, types_of

OK, INVALID_VALUE, OUT_OF_MEMORY, NO_DEVICE, INVALID_DEVICE, INVALID_HANDLE = 0, 1, 2, 100, 101, 400
ILLEGAL_ADDRESS, LAUNCH_FAILED, ECC_UNCORRECTABLE = 700, 719, 214
CAPTURE_UNSUPPORTED, CAPTURE_INVALIDATED, CAPTURE_UNMATCHED, CAPTURE_WRONG_THREAD = 900, 901, 903, 908
_NAMES = {
    INVALID_VALUE: b"CUDA_ERROR_INVALID_VALUE",
    OUT_OF_MEMORY: b"CUDA_ERROR_OUT_OF_MEMORY",
    NO_DEVICE: b"CUDA_ERROR_NO_DEVICE",
    ILLEGAL_ADDRESS: b"CUDA_ERROR_ILLEGAL_ADDRESS",
    LAUNCH_FAILED: b"CUDA_ERROR_LAUNCH_FAILED",
    ECC_UNCORRECTABLE: b"CUDA_ERROR_ECC_UNCORRECTABLE",
    CAPTURE_UNSUPPORTED: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
    CAPTURE_INVALIDATED: b"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
}
_GLOBAL, _THREAD_LOCAL = 0, 1
_LEAST, _GREATEST = 0, -5
_CONTEXT = 0xC0FFEE

Work = Callable[[], None]


class FaultError(Exception):
    """An error that breaks the context, with its code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class _Capture:
    thread: int
    mode: int
    work: list[Work] = field(default_factory=list)
    is_invalid: bool = False


@dataclass
class Stream:
    """A stream, its work that waits, and what it captures."""

    priority: int
    waiting: list[Work] = field(default_factory=list)
    capture: _Capture | None = None
    computed: int = 0
    """Inferences that were executed in this stream."""


class FakeCuda:
    """A GPU of `total_bytes`; its attributes named cu... are the C functions."""

    def __init__(self, total_bytes: int = 1 << 30, sm: tuple[int, int] = (8, 7), gpus: int = 1) -> None:
        self.total_bytes, self.sm, self.gpus = total_bytes, sm, gpus
        self.is_integrated = True
        self.lock = threading.RLock()
        self.memory: dict[int, Any] = {}
        self.pinned: dict[int, Any] = {}
        self.most_bytes = 0
        """The most bytes that were ever allocated together."""
        self.allocations = 0
        self.fails_at: int | None = None
        """Number of the allocation that fails, counted from 1."""
        self.broken = OK
        """The sticky error of the context."""
        self.streams: dict[int, Stream] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.events: dict[int, int] = {}
        self.gpu_s = 0.0
        """Time that engines took to compute."""
        self.captures = 0
        self.launches = 0
        self.when_capturing: list[Callable[[int], None]] = []
        """Called with a stream when it begins to capture: what another thread does meanwhile."""
        self._next_handle = 0x1000
        self._current = threading.local()
        for name in PROTOTYPES:
            prototype = ctypes.CFUNCTYPE(ctypes.c_int, *types_of(name))
            setattr(self, name, prototype(self._checked(name, getattr(self, f"_{name}"))))

    # What the fake TensorRT and the tests use.

    @property
    def used_bytes(self) -> int:
        with self.lock:
            return sum(len(block) for block in self.memory.values())

    def view(self, address: int, size_bytes: int) -> NDArray[np.uint8]:
        """GPU memory as an array; breaks the context where it is not allocated as a whole."""
        for begin, block in (*self.memory.items(), *self.pinned.items()):
            if begin <= address and address + size_bytes <= begin + len(block):
                return np.frombuffer(block, np.uint8, size_bytes, address - begin)
        raise FaultError(ILLEGAL_ADDRESS)

    def enqueue(self, stream: int, work: Work) -> int:
        """Add work to a stream, or to the graph that it captures; return an error code."""
        with self.lock:
            found = self.streams.get(stream)
            if found is None:
                return INVALID_HANDLE
            if found.capture is None:
                if self._is_taken(getattr(work, "scratch", None), found):
                    self.broken = LAUNCH_FAILED
                    return LAUNCH_FAILED
                found.waiting.append(work)
                return OK
            if found.capture.mode != _GLOBAL and found.capture.thread != threading.get_ident():
                return CAPTURE_WRONG_THREAD
            found.capture.work.append(work)
            return CAPTURE_INVALIDATED if found.capture.is_invalid else OK

    def _is_taken(self, scratch: int | None, mine: Stream) -> bool:
        """True where another stream's work, which nothing orders before this one's, computes in the same memory."""
        others = (work for stream in self.streams.values() if stream is not mine for work in stream.waiting)
        return scratch is not None and any(getattr(work, "scratch", None) == scratch for work in others)

    def is_capturing(self, stream: int) -> bool:
        return self.streams[stream].capture is not None

    def invalidate(self, stream: int) -> None:
        """Spoil a capture, as a forbidden call of another thread does."""
        capture = self.streams[stream].capture
        assert capture is not None
        capture.is_invalid = True

    def stream_of(self, priority: str) -> int:
        wanted = _GREATEST if priority == "high" else _LEAST
        return next(number for number, stream in self.streams.items() if stream.priority == wanted)

    # The functions.

    def _checked(self, name: str, function: Callable[..., int]) -> Callable[..., int]:
        free_of_context = name in {"cuGetErrorName", "cuInit", "cuDriverGetVersion"} or name.startswith("cuDevice")

        def call(*arguments: int) -> int:
            with self.lock:
                if free_of_context:
                    return function(*arguments)
                if self.broken:
                    return self.broken
                if name != "cuCtxSetCurrent" and not getattr(self._current, "is_set", False):
                    return 201  # CUDA_ERROR_INVALID_CONTEXT
                code = function(*arguments)
                self.broken = code if code in {ILLEGAL_ADDRESS, LAUNCH_FAILED, ECC_UNCORRECTABLE} else OK
                return code

        return call

    def _handle(self) -> int:
        self._next_handle += 0x10
        return self._next_handle

    def _cuInit(self, flags: int) -> int:
        if flags:
            return INVALID_VALUE
        return OK if self.gpus else NO_DEVICE

    def _cuDriverGetVersion(self, version: int) -> int:
        return _put(version, ctypes.c_int, 12060)

    def _cuGetErrorName(self, code: int, name: int) -> int:
        return _put(name, ctypes.c_char_p, _NAMES.get(code, b"CUDA_ERROR_OTHER"))

    def _cuDeviceGetCount(self, count: int) -> int:
        return _put(count, ctypes.c_int, self.gpus)

    def _cuDeviceGet(self, device: int, ordinal: int) -> int:
        return _put(device, ctypes.c_int, ordinal) if ordinal < self.gpus else INVALID_DEVICE

    def _cuDeviceGetName(self, name: int, size: int, _device: int) -> int:
        text = b"Fake Orin\0"[:size]
        ctypes.memmove(name, text, len(text))
        return OK

    def _cuDeviceGetAttribute(self, value: int, attribute: int, _device: int) -> int:
        known = {75: self.sm[0], 76: self.sm[1], 18: int(self.is_integrated)}
        return _put(value, ctypes.c_int, known[attribute])

    def _cuDevicePrimaryCtxRetain(self, context: int, device: int) -> int:
        return _put(context, ctypes.c_void_p, _CONTEXT) if device < self.gpus else INVALID_DEVICE

    def _cuCtxSetCurrent(self, context: int) -> int:
        self._current.is_set = context == _CONTEXT
        return OK if context == _CONTEXT else INVALID_VALUE

    def _cuCtxGetStreamPriorityRange(self, least: int, greatest: int) -> int:
        return _put(least, ctypes.c_int, _LEAST) or _put(greatest, ctypes.c_int, _GREATEST)

    def _cuMemGetInfo_v2(self, free: int, total: int) -> int:
        left = self.total_bytes - self.used_bytes
        return _put(free, ctypes.c_size_t, left) or _put(total, ctypes.c_size_t, self.total_bytes)

    def _cuMemAlloc_v2(self, address: int, size: int) -> int:
        if code := self._unsafe_in_capture():
            return code
        if not size:
            return INVALID_VALUE
        self.allocations += 1
        if self.allocations == self.fails_at or self.used_bytes + size > self.total_bytes:
            return OUT_OF_MEMORY
        block = ctypes.create_string_buffer(size)
        self.memory[ctypes.addressof(block)] = block
        self.most_bytes = max(self.most_bytes, self.used_bytes)
        return _put(address, ctypes.c_uint64, ctypes.addressof(block))

    def _cuMemFree_v2(self, address: int) -> int:
        if code := self._unsafe_in_capture():
            return code
        return OK if self.memory.pop(address, None) is not None else INVALID_VALUE

    def _unsafe_in_capture(self) -> int:
        """Break the captures that a call which may wait for the device breaks: its own thread's, and global ones."""
        for stream in self.streams.values():
            capture = stream.capture
            if capture is not None and (capture.mode == _GLOBAL or capture.thread == threading.get_ident()):
                capture.is_invalid = True
                return CAPTURE_UNSUPPORTED
        return OK

    def _cuMemHostAlloc(self, address: int, size: int, _flags: int) -> int:
        block = ctypes.create_string_buffer(size)
        self.pinned[ctypes.addressof(block)] = block
        return _put(address, ctypes.c_void_p, ctypes.addressof(block))

    def _cuMemFreeHost(self, address: int) -> int:
        return OK if self.pinned.pop(address, None) is not None else INVALID_VALUE

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, size: int, stream: int) -> int:
        return self._copy(target, source, size, stream)

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, size: int, stream: int) -> int:
        return self._copy(target, source, size, stream)

    def _copy(self, target: int, source: int, size: int, stream: int) -> int:
        def copy() -> None:
            np.copyto(self.view(target, size), self.view(source, size))

        return self.enqueue(stream, copy)

    def _cuStreamCreateWithPriority(self, stream: int, _flags: int, priority: int) -> int:
        number = self._handle()
        self.streams[number] = Stream(priority)
        return _put(stream, ctypes.c_void_p, number)

    def _cuStreamSynchronize(self, stream: int) -> int:
        found = self.streams.get(stream)
        if found is None:
            return INVALID_HANDLE
        if found.capture is not None:
            found.capture.is_invalid = True
            return CAPTURE_UNSUPPORTED
        while found.waiting:
            work = found.waiting.pop(0)
            found.computed += hasattr(work, "scratch")
            try:
                work()
            except FaultError as fault:
                return fault.code
        return OK

    def _cuEventCreate(self, event: int, _flags: int) -> int:
        number = self._handle()
        self.events[number] = 0
        return _put(event, ctypes.c_void_p, number)

    def _cuEventRecord(self, event: int, stream: int) -> int:
        if event not in self.events or stream not in self.streams:
            return INVALID_HANDLE
        self.events[event] = stream
        return OK

    def _cuEventSynchronize(self, event: int) -> int:
        if event not in self.events:
            return INVALID_HANDLE
        return self._cuStreamSynchronize(self.events[event]) if self.events[event] else OK

    def _cuEventDestroy_v2(self, event: int) -> int:
        return OK if self.events.pop(event, None) is not None else INVALID_HANDLE

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> int:
        self.captures += 1
        self.streams[stream].capture = _Capture(threading.get_ident(), mode)
        for meanwhile in self.when_capturing:
            meanwhile(stream)
        return OK

    def _cuStreamEndCapture(self, stream: int, graph: int) -> int:
        capture = self.streams[stream].capture
        if capture is None:
            return CAPTURE_UNMATCHED
        if capture.mode == _THREAD_LOCAL and capture.thread != threading.get_ident():
            return CAPTURE_WRONG_THREAD
        self.streams[stream].capture = None
        if capture.is_invalid:
            _put(graph, ctypes.c_void_p, 0)
            return CAPTURE_INVALIDATED
        number = self._handle()
        self.graphs[number] = capture.work
        return _put(graph, ctypes.c_void_p, number)

    def _cuGraphInstantiateWithFlags(self, executable: int, graph: int, _flags: int) -> int:
        number = self._handle()
        self.executables[number] = self.graphs[graph]
        return _put(executable, ctypes.c_void_p, number)

    def _cuGraphLaunch(self, executable: int, stream: int) -> int:
        if executable not in self.executables:
            return INVALID_HANDLE
        self.launches += 1
        for work in self.executables[executable]:
            self.enqueue(stream, work)
        return OK

    def _cuGraphExecDestroy(self, executable: int) -> int:
        return OK if self.executables.pop(executable, None) is not None else INVALID_HANDLE

    def _cuGraphDestroy(self, graph: int) -> int:
        return OK if self.graphs.pop(graph, None) is not None else INVALID_HANDLE


def _put(address: int, kind: Any, value: object) -> int:
    ctypes.cast(address, ctypes.POINTER(kind))[0] = value
    return OK
