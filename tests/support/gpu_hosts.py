"""Devices that are made up: a driver, cards, CUDA libraries and an ONNX Runtime, each there or not."""

import ctypes
import struct
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.inference.processors.host import Host

CUDA_12: Final = ("libcublasLt.so.12", "libcublas.so.12", "libcudnn.so.9", "libcufft.so.11", "libcudart.so.12")
"""Libraries that the CUDA provider of onnxruntime-gpu 1.29 needs."""
CUDA_13: Final = ("libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10", "libcudart.so.13")
"""Libraries that the one of 1.31 names; it loads cuDNN by itself."""
_LOADED_AT: Final = 0x1000


@dataclass(frozen=True)
class Driver:
    """The three functions of libcuda that are asked, with CUDA's own signatures."""

    cards: int = 1
    cuda: int = 12040
    answer: int = 0

    def cuInit(self, flags: int) -> int:  # noqa: N802 - CUDA's name
        assert flags == 0
        return self.answer

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: ANN401, N802 - CUDA's name, a ctypes reference
        ctypes.cast(count, ctypes.POINTER(ctypes.c_int)).contents.value = self.cards
        return 0

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: ANN401, N802 - CUDA's name, a ctypes reference
        ctypes.cast(version, ctypes.POINTER(ctypes.c_int)).contents.value = self.cuda
        return 0


def host(
    driver: Driver | None,
    libraries: Collection[str] = (),
    onnxruntime: Path | None = None,
    tensorrt: Path | None = None,
    *,
    has_node: bool = True,
) -> Host:
    """Return a device; without a driver there is no libcuda."""
    modules = {"onnxruntime": onnxruntime, "tensorrt": tensorrt}

    def open_library(name: str) -> object:
        if name == "libcuda.so.1" and driver is not None:
            return driver
        if name in libraries:
            return object()
        raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    return Host(open_library, modules.get, lambda: has_node)


def cpu_wheel(folder: Path) -> Path:
    """Make the module's folder of onnxruntime without CUDA."""
    module = folder / "onnxruntime"
    (module / "capi").mkdir(parents=True, exist_ok=True)
    return module


def gpu_wheel(folder: Path, needed: Collection[str] = CUDA_12) -> Path:
    """Make the module's folder of onnxruntime-gpu, whose CUDA provider needs the libraries `needed`."""
    module = cpu_wheel(folder)
    write_library(module / "capi" / "libonnxruntime_providers_cuda.so", ["libc.so.6", *needed])
    return module


def write_library(path: Path, needed: Collection[str]) -> None:
    """Write an ELF file with nothing in it but DT_NEEDED entries."""
    strings, names = b"\0", []
    for name in needed:
        names.append(len(strings))
        strings += name.encode() + b"\0"
    headers = 64 + 2 * 56
    entries = [(1, at) for at in names] + [(5, _LOADED_AT + headers), (10, len(strings)), (0, 0)]
    dynamic = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    start, size = headers + len(strings), headers + len(strings) + len(dynamic)
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOADED_AT, _LOADED_AT, size, size, 4096)
    table = struct.pack("<IIQQQQQQ", 2, 6, start, _LOADED_AT + start, 0, len(dynamic), len(dynamic), 8)
    path.write_bytes(header + load + table + strings + dynamic)
