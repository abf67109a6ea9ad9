"""Paths that a sandboxed process may read besides its folder: Python, its packages and their libraries."""

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
_SECRETS: Final = "credstore"
"""Prefix of systemd's credential folders, some of which lie beside libraries."""
_GPU_FILES: Final = ("nvidia*", "nvhost*", "nvmap", "nvgpu", "nvsched*", "host1x-fence", "dri")
"""Names under /dev of NVIDIA's cards and of a Jetson's GPU."""
_GPU_READABLE: Final = (
    *("/proc/driver", "/proc/devices", "/proc/self", "/proc/modules", "/proc/version", "/proc/sys/vm"),
    *("/sys", "/etc/nv_tegra_release", "/etc/nvidia", "/usr/share/nvidia", "/usr/src/tensorrt", "/opt/nvidia"),
)
_PACKAGES: Final = ("site-packages", "dist-packages")


def readable() -> Iterator[Path]:
    """Yield files, and folders that are readable with their whole content; some paths may not exist.

    A folder on sys.path that holds no installed packages, such as a checkout, is left out but for this package,
    because it may hold any file.
    """
    for folder in (*map(Path, _SYSTEM), *(Path(prefix, "lib") for prefix in {sys.prefix, sys.base_prefix})):
        yield from _without_secrets(folder)
    yield from (Path(entry) for entry in sys.path if Path(entry).name in _PACKAGES)
    yield Path(agent.__file__).parent
    yield from map(Path, filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)))


def gpu_files() -> Iterator[Path]:
    """Yield the device files of NVIDIA GPUs, which a process that builds an engine opens for writing."""
    for name in _GPU_FILES:
        yield from Path("/dev").glob(name)


def gpu_readable() -> Iterator[Path]:
    """Yield the paths that an NVIDIA GPU's driver reads to find its GPU; some may not exist."""
    yield from map(Path, _GPU_READABLE)


def _without_secrets(path: Path) -> Iterator[Path]:
    """Yield `path`, or its entries without the secrets, because Landlock cannot exclude a part of an allowed folder."""
    inside = list(path.iterdir()) if path.is_dir() else []
    if not any(one.name.startswith(_SECRETS) for one in inside):
        yield path
        return
    # no links, because what they point to is allowed by its own place, or not at all
    yield from (one for one in inside if not one.name.startswith(_SECRETS) and not one.is_symlink())
