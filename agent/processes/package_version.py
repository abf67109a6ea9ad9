"""Installed library versions, looked up without importing the libraries."""

from importlib import metadata
from importlib.util import find_spec
from typing import Final

_LEAST_ONNXRUNTIME: Final = (1, 31)
"""Least good release; older ones hold Python's GIL while they create a session, so that all frames wait."""


def version_of(library: str) -> str | None:
    """Return the version of the installed package that contains the module `library`; None without one.

    The names may differ: the module onnxruntime also comes from onnxruntime-gpu.
    """
    if not find_spec(library):
        return None
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        packages = metadata.packages_distributions().get(library, [])
        return metadata.version(packages[0]) if packages else "unknown"


def fault_of_onnxruntime(version: str) -> str | None:
    """Describe what is wrong with a release of ONNX Runtime that serves; None for a good one."""
    parts = version.split(".")[:2]
    if not all(part.isdecimal() for part in parts) or tuple(map(int, parts)) >= _LEAST_ONNXRUNTIME:
        return None
    least = ".".join(map(str, _LEAST_ONNXRUNTIME))
    return f"ONNX Runtime {version} stops every line while it loads a model; {least} and later do not"
