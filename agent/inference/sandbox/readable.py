"""Paths that a sandboxed process may read beside its folder: Python, its packages, their libraries."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import agent

_SYSTEM: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/cuda", "/etc/ld.so.cache"),
    *("/etc/os-release", "/etc/localtime", "/usr/share/zoneinfo", "/dev/urandom"),
    *("/proc/cpuinfo", "/proc/meminfo", "/proc/self/maps", "/proc/self/statm", "/sys/devices/system/cpu"),
)
_PACKAGES: Final = ("site-packages", "dist-packages")


def readable() -> Iterator[Path]:
    """Yield files, and folders with all that is beneath them; some may not be there.

    Of a folder that was put on sys.path by other means, such as a checkout, only this package: it may hold anything.
    """
    yield from map(Path, _SYSTEM)
    yield from (Path(prefix, "lib") for prefix in {sys.prefix, sys.base_prefix})
    yield from (Path(entry) for entry in sys.path if Path(entry).name in _PACKAGES)
    yield Path(agent.__file__).parent
    yield from map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))
