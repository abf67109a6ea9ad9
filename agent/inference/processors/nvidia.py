"""Finds what keeps an NVIDIA GPU from working: card, driver, CUDA libraries, or a runtime built without CUDA.

Each fault is a short text that begins with the missing thing. Written against NVIDIA's documentation and tested with
stand-ins for the libraries, without a GPU.
"""

import ctypes
import re
from collections.abc import Iterator
from typing import Final

from agent.inference.processors.elf import needed_libraries
from agent.inference.processors.host import Host

_LIBCUDA: Final = "libcuda.so.1"
_NO_DEVICE: Final = 100  # CUDA_ERROR_NO_DEVICE
_MISMATCH: Final = 803  # CUDA_ERROR_SYSTEM_DRIVER_MISMATCH
_PROVIDER: Final = "capi/libonnxruntime_providers_cuda.so"
_LIBRARY: Final = re.compile(r"(lib(cudnn|cublasLt|cublas|cudart|cufft|curand|nvrtc|nvJitLink)\.so)\.(\d+)")
_TITLES: Final = {
    "cudnn": "cuDNN",
    "cublas": "cuBLAS",
    "cublasLt": "cuBLAS",
    "cudart": "CUDA runtime",
    "cufft": "cuFFT",
    "curand": "cuRAND",
    "nvrtc": "NVRTC",
    "nvJitLink": "nvJitLink",
}
_CUDNN: Final = "libcudnn.so.9"
"""ONNX Runtime from 1.31 on loads it only for a convolution, so its own libraries do not list it."""
_OF_CUDA: Final = ("cudart", "cublas", "cublasLt", "nvrtc")
"""Libraries with CUDA's version number; the others have numbers of their own."""
_MAJORS: Final = range(7, 16)
_TENSORRT: Final = re.compile(r"tensorrt(?:_cu\d+)?-(\d+)\.(\d+)[\w.+]*\.dist-info")
_LEAST_TENSORRT: Final = (10, 3)


def device_faults(index: int, host: Host, cuda_major: int = 0) -> Iterator[str]:
    """Yield each reason why CUDA cannot use GPU `index`.

    `cuda_major`: the CUDA version that a runtime was built for; 0: any.
    """
    try:
        library = host.open_library(_LIBCUDA)
    except OSError:
        if not host.has_node():
            yield "no card (no NVIDIA device node)"
        yield f"no driver ({_LIBCUDA} cannot be loaded)"
        return
    answer = library.cuInit(0)
    if answer == _NO_DEVICE:
        yield "no card (the driver finds none)"
        return
    if answer:
        words = ": another version than the kernel's module; restart the device" if answer == _MISMATCH else ""
        yield f"no working driver (cuInit answers {answer}{words})"
        return
    count, version = ctypes.c_int(), ctypes.c_int()
    library.cuDeviceGetCount(ctypes.byref(count))
    library.cuDriverGetVersion(ctypes.byref(version))
    if index >= count.value:
        yield f"no card {index} (the driver has {count.value})" if count.value else "no card (the driver finds none)"
    has_major, has_minor = version.value // 1000, version.value % 1000 // 10
    if has_major < cuda_major:
        yield f"wrong version of the driver (it has CUDA {has_major}.{has_minor}, the runtime needs {cuda_major})"


def onnxruntime_faults(index: int, host: Host) -> Iterator[str]:
    """Yield each reason why ONNX Runtime cannot use GPU `index`, without importing ONNX Runtime."""
    folder = host.module_folder("onnxruntime")
    if folder is None:
        yield "no onnxruntime-gpu"
        yield from device_faults(index, host)
        return
    provider = folder / _PROVIDER
    if not provider.is_file():
        yield "CPU wheel of onnxruntime (install onnxruntime-gpu in its place)"
        yield from device_faults(index, host)
        return
    named = needed_libraries(provider)
    if not any("cudnn" in name for name in named):
        named = (*named, _CUDNN)
    needed = [found for name in named if (found := _LIBRARY.fullmatch(name))]
    cuda_major = max((int(one[3]) for one in needed if one[2] in _OF_CUDA), default=0)
    yield from device_faults(index, host, cuda_major)
    absent = {_TITLES[one[2]]: one for one in needed if not host.has_library(one[0])}
    for one in absent.values():
        yield _library_fault(one, host)


def tensorrt_faults(index: int, host: Host) -> Iterator[str]:
    """Yield each reason why TensorRT cannot use GPU `index`."""
    folder = host.module_folder("tensorrt")
    if folder is None:
        yield "no TensorRT (no Python module tensorrt)"
    else:
        found = (_TENSORRT.fullmatch(path.name) for path in folder.parent.glob("tensorrt*.dist-info"))
        release = max(((int(one[1]), int(one[2])) for one in found if one), default=_LEAST_TENSORRT)
        if release < _LEAST_TENSORRT:
            needed, has = (".".join(map(str, one)) for one in (_LEAST_TENSORRT, release))
            yield f"wrong version of TensorRT ({needed} or newer is needed, {has} is here)"
    yield from device_faults(index, host)


def _library_fault(needed: "re.Match[str]", host: Host) -> str:
    name, title = needed[0], _TITLES[needed[2]]
    others = (f"{needed[1]}.{major}" for major in _MAJORS if major != int(needed[3]))
    other = next((one for one in others if host.has_library(one)), None)
    if other is not None:
        return f"wrong version of {title} ({name} is needed, {other} is here)"
    return f"no {title} ({name} cannot be loaded)"
