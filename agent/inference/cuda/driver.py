"""Typed calls of the CUDA driver (libcuda.so.1) by ctypes, because JetPack has no Python package for it.

Signatures and numbers are those of cuda.h. Every call releases the GIL, as ctypes does.
"""

import ctypes
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulonglong, c_void_p
from functools import cache
from typing import Any, Final

from agent.inference.cuda import errors

LIBRARY: Final = "libcuda.so.1"

_Handle: Final = c_void_p
_Address: Final = c_uint64  # CUdeviceptr
_NON_BLOCKING: Final = 1  # CU_STREAM_NON_BLOCKING: no order with the legacy stream
_BLOCKING: Final = 1 | 2  # CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING: who waits sleeps
_THREAD_LOCAL: Final = 1  # CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
_PORTABLE: Final = 1  # CU_MEMHOSTALLOC_PORTABLE
_MAJOR, _MINOR, _INTEGRATED = 75, 76, 18  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_..., CU_DEVICE_ATTRIBUTE_INTEGRATED
_NAME_BYTES: Final = 256

SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(_Handle), c_int),
    "cuCtxSetCurrent": (_Handle,),
    "cuCtxGetStreamPriorityRange": (POINTER(c_int), POINTER(c_int)),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(_Address), c_size_t),
    "cuMemFree_v2": (_Address,),
    "cuMemHostAlloc": (POINTER(_Handle), c_size_t, c_uint),
    "cuMemFreeHost": (_Handle,),
    "cuMemcpyHtoDAsync_v2": (_Address, _Handle, c_size_t, _Handle),
    "cuMemcpyDtoHAsync_v2": (_Handle, _Address, c_size_t, _Handle),
    "cuStreamCreateWithPriority": (POINTER(_Handle), c_uint, c_int),
    "cuStreamSynchronize": (_Handle,),
    "cuEventCreate": (POINTER(_Handle), c_uint),
    "cuEventRecord": (_Handle, _Handle),
    "cuEventSynchronize": (_Handle,),
    "cuEventDestroy_v2": (_Handle,),
    "cuStreamBeginCapture_v2": (_Handle, c_int),
    "cuStreamEndCapture": (_Handle, POINTER(_Handle)),
    "cuGraphInstantiateWithFlags": (POINTER(_Handle), _Handle, c_ulonglong),
    "cuGraphLaunch": (_Handle, _Handle),
    "cuGraphExecDestroy": (_Handle,),
    "cuGraphDestroy": (_Handle,),
}


def open_library() -> Any:  # noqa: ANN401 - a library of functions without types
    """Load libcuda. Raises OSError where the GPU's driver is not installed."""
    return ctypes.CDLL(LIBRARY)


@cache
def driver() -> "Driver":
    """Return the driver of this process, initialised. Raises OSError without one, CudaError where it does not start."""
    return Driver(open_library())


class Driver:
    """The functions of libcuda that Changeover calls. Threading: any thread; a context is current to one thread.

    Every method raises CudaError, and DeviceLostError once the context is broken.
    """

    def __init__(self, library: Any) -> None:  # noqa: ANN401 - a library of functions without types
        self._functions: Final = {name: _bound(library, name, types) for name, types in SIGNATURES.items()}
        self._call("cuInit", 0)

    def version(self) -> int:
        """Return the newest CUDA that the driver supports, such as 12060."""
        return self._number("cuDriverGetVersion")

    def device_count(self) -> int:
        """Return the number of GPUs."""
        return self._number("cuDeviceGetCount")

    def device(self, index: int) -> int:
        """Return the driver's number of the GPU `index`."""
        return self._number("cuDeviceGet", index)

    def device_name(self, device: int) -> str:
        """Return the product's name of a GPU."""
        name = ctypes.create_string_buffer(_NAME_BYTES)
        self._call("cuDeviceGetName", name, _NAME_BYTES, device)
        return name.value.decode(errors="replace")

    def compute_capability(self, device: int) -> tuple[int, int]:
        """Return the architecture of a GPU, such as (8, 7)."""
        major, minor = (self._number("cuDeviceGetAttribute", kind, device) for kind in (_MAJOR, _MINOR))
        return major, minor

    def is_integrated(self, device: int) -> bool:
        """Return True where the GPU shares its memory with the processor."""
        return bool(self._number("cuDeviceGetAttribute", _INTEGRATED, device))

    def retain_context(self, device: int) -> int:
        """Return the primary context of a GPU, which is created by the first call."""
        return self._handle("cuDevicePrimaryCtxRetain", device)

    def make_current(self, context: int) -> None:
        """Make a context the current one of the calling thread."""
        self._call("cuCtxSetCurrent", context)

    def memory(self) -> tuple[int, int]:
        """Return the free and the total bytes of the current context's GPU."""
        free, total = c_size_t(), c_size_t()
        self._call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, size_bytes: int) -> int:
        """Return the address of new GPU memory."""
        address = _Address()
        self._call("cuMemAlloc_v2", byref(address), size_bytes)
        return address.value

    def free(self, address: int) -> None:
        """Free GPU memory; waits for what uses it."""
        self._call("cuMemFree_v2", address)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Return the address of new host memory that the GPU reads and writes by itself."""
        return self._handle("cuMemHostAlloc", size_bytes, _PORTABLE)

    def free_pinned(self, address: int) -> None:
        """Free pinned host memory."""
        self._call("cuMemFreeHost", address)

    def copy_to_device(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from host memory to GPU memory."""
        self._call("cuMemcpyHtoDAsync_v2", target, source, size_bytes, stream)

    def copy_to_host(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Enqueue a copy from GPU memory to host memory."""
        self._call("cuMemcpyDtoHAsync_v2", target, source, size_bytes, stream)

    def priorities(self) -> tuple[int, int]:
        """Return the lowest and the highest priority of a stream; a high one is a small number."""
        least, greatest = c_int(), c_int()
        self._call("cuCtxGetStreamPriorityRange", byref(least), byref(greatest))
        return least.value, greatest.value

    def new_stream(self, priority: int) -> int:
        """Create a stream, which has no order with other streams."""
        return self._handle("cuStreamCreateWithPriority", _NON_BLOCKING, priority)

    def synchronize(self, stream: int) -> None:
        """Wait until all work of a stream is done."""
        self._call("cuStreamSynchronize", stream)

    def new_event(self) -> int:
        """Create an event."""
        return self._handle("cuEventCreate", _BLOCKING)

    def record(self, event: int, stream: int) -> None:
        """Enqueue an event on a stream; it happens once the stream's earlier work is done."""
        self._call("cuEventRecord", event, stream)

    def wait_until_happened(self, event: int) -> None:
        """Wait for an event."""
        self._call("cuEventSynchronize", event)

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""
        self._call("cuEventDestroy_v2", event)

    def begin_capture(self, stream: int) -> None:
        """Have a stream record its work instead of doing it; other threads may go on, whatever they call."""
        self._call("cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        """Return the graph of what was recorded since `begin_capture`."""
        graph = _Handle()
        self._call("cuStreamEndCapture", stream, byref(graph))
        return graph.value or 0

    def instantiate(self, graph: int) -> int:
        """Return a graph that can be launched."""
        return self._handle("cuGraphInstantiateWithFlags", graph, 0)

    def launch(self, executable: int, stream: int) -> None:
        """Enqueue all work of a graph."""
        self._call("cuGraphLaunch", executable, stream)

    def destroy_executable(self, executable: int) -> None:
        """Destroy a graph that `instantiate` returned."""
        self._call("cuGraphExecDestroy", executable)

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph that `end_capture` returned."""
        self._call("cuGraphDestroy", graph)

    def _number(self, function: str, *arguments: object) -> int:
        number = c_int()
        self._call(function, byref(number), *arguments)
        return number.value

    def _handle(self, function: str, *arguments: object) -> int:
        handle = _Handle()
        self._call(function, byref(handle), *arguments)
        return handle.value or 0

    def _call(self, function: str, *arguments: object) -> None:
        self._check(function, self._functions[function](*arguments))

    def _check(self, function: str, code: int) -> None:
        if code:
            raise errors.raised(function, code, self._name(code))

    def _name(self, code: int) -> str:
        name = c_char_p()
        self._functions["cuGetErrorName"](code, byref(name))
        return (name.value or b"unknown").decode(errors="replace")


def _bound(library: Any, name: str, types: tuple[Any, ...]) -> Any:  # noqa: ANN401 - see above
    function = getattr(library, name)
    function.argtypes, function.restype = types, c_int
    return function
