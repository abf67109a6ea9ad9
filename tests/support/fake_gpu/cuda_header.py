"""Prototypes of the driver's functions, as the headers of CUDA 12.9 have them (package cuda-bindings, cydriver.pxd)."""

import ctypes
from typing import Any

PROTOTYPES = {
    "cuInit": "unsigned int",
    "cuDriverGetVersion": "int*",
    "cuGetErrorName": "CUresult, const char**",
    "cuDeviceGetCount": "int*",
    "cuDeviceGet": "CUdevice*, int",
    "cuDeviceGetName": "char*, int, CUdevice",
    "cuDeviceGetAttribute": "int*, CUdevice_attribute, CUdevice",
    "cuDevicePrimaryCtxRetain": "CUcontext*, CUdevice",
    "cuCtxSetCurrent": "CUcontext",
    "cuCtxGetStreamPriorityRange": "int*, int*",
    "cuMemGetInfo_v2": "size_t*, size_t*",
    "cuMemAlloc_v2": "CUdeviceptr*, size_t",
    "cuMemFree_v2": "CUdeviceptr",
    "cuMemHostAlloc": "void**, size_t, unsigned int",
    "cuMemFreeHost": "void*",
    "cuMemcpyHtoDAsync_v2": "CUdeviceptr, const void*, size_t, CUstream",
    "cuMemcpyDtoHAsync_v2": "void*, CUdeviceptr, size_t, CUstream",
    "cuStreamCreateWithPriority": "CUstream*, unsigned int, int",
    "cuStreamSynchronize": "CUstream",
    "cuEventCreate": "CUevent*, unsigned int",
    "cuEventRecord": "CUevent, CUstream",
    "cuEventSynchronize": "CUevent",
    "cuEventDestroy_v2": "CUevent",
    "cuStreamBeginCapture_v2": "CUstream, CUstreamCaptureMode",
    "cuStreamEndCapture": "CUstream, CUgraph*",
    "cuGraphInstantiateWithFlags": "CUgraphExec*, CUgraph, unsigned long long",
    "cuGraphLaunch": "CUgraphExec, CUstream",
    "cuGraphExecDestroy": "CUgraphExec",
    "cuGraphDestroy": "CUgraph",
}

_VALUES: dict[str, Any] = {
    "unsigned int": ctypes.c_uint,
    "unsigned long long": ctypes.c_ulonglong,
    "int": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "CUdeviceptr": ctypes.c_uint64,
    **dict.fromkeys(("CUresult", "CUdevice", "CUdevice_attribute", "CUstreamCaptureMode"), ctypes.c_int),
    **dict.fromkeys(("CUcontext", "CUstream", "CUevent", "CUgraph", "CUgraphExec"), ctypes.c_void_p),
}


def types_of(function: str) -> tuple[Any, ...]:
    """The ctypes of a function's arguments; each pointer is a `void*`."""
    words = PROTOTYPES[function].split(", ")
    return tuple(ctypes.c_void_p if word.endswith("*") else _VALUES[word] for word in words)
