"""Access to what a device has: libraries, Python modules and device nodes; tests replace it."""

import ctypes
import importlib.util
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_NODES: Final = ("/dev/nvidia0", "/dev/nvhost-ctrl-gpu", "/dev/nvgpu")
"""Device nodes of an NVIDIA card, and of the GPU of a Jetson."""


@dataclass(frozen=True)
class Host:
    """The libraries, Python modules and device nodes of one device."""

    open_library: Callable[[str], Any]
    """Load a shared library by its name. Raises OSError."""
    module_folder: Callable[[str], Path | None]
    """Return the folder of an installed Python module without importing it; None where it is not installed."""
    has_node: Callable[[], bool]
    """Return True where the device has an NVIDIA GPU's node, whether or not anything can use it."""

    def has_library(self, name: str) -> bool:
        """Return True where the loader finds `name`, or a Python package of NVIDIA's or torch brings it."""
        packaged = (folder for package in ("nvidia", "torch") if (folder := self.module_folder(package)) is not None)
        if any(next(folder.glob(f"{depth}lib/{name}"), None) for folder in packaged for depth in ("", "*/")):
            return True
        try:
            self.open_library(name)
        except OSError:
            return False
        return True


def _module_folder(name: str) -> Path | None:
    with suppress(ImportError, ValueError):  # ValueError: a module that is imported and has no spec
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return Path(next(iter(spec.submodule_search_locations)))
    return None


THIS_HOST: Final = Host(ctypes.CDLL, _module_folder, lambda: any(Path(node).exists() for node in _NODES))
