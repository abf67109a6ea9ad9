"""Installed library versions, looked up without importing the libraries."""

from importlib import metadata
from importlib.util import find_spec


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
