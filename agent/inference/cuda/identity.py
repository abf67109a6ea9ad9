"""The GPU's architecture and its driver's release, which a compiled engine depends on; read without a CUDA context."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from agent.inference.cuda.driver import LIBRARY, driver
from agent.inference.cuda.errors import CudaError
from agent.messages.errors import DeviceMissingError

_RELEASES: Final = (Path("/proc/driver/nvidia/version"), Path("/etc/nv_tegra_release"))
_NUMBER: Final = re.compile(r"\b\d+\.\d+(?:\.\d+)*\b|\bR\d+\b")


@dataclass(frozen=True)
class Identity:
    """Properties of a GPU that an engine depends on."""

    name: str
    sm: str
    """Architecture, such as "87"."""
    driver: str
    """Releases of the driver and of its CUDA."""
    is_integrated: bool
    """The GPU shares its memory with the processor, as on a Jetson."""


@cache
def identity_of(index: int) -> Identity:
    """Return the identity of GPU `index`. Raises DeviceMissingError that names what is missing."""
    try:
        cuda = driver()
        count = cuda.device_count()
        if index >= count:
            raise DeviceMissingError(f"there are {count} GPUs, and GPU {index} is not one of them")
        device = cuda.device(index)
        major, minor = cuda.compute_capability(device)
        release = " ".join((*_releases(), f"CUDA {cuda.version()}"))
        return Identity(cuda.device_name(device), f"{major}{minor}", release, cuda.is_integrated(device))
    except OSError as error:
        raise DeviceMissingError(f"{LIBRARY}, the GPU's driver, cannot be loaded: {error}") from error
    except CudaError as error:
        raise DeviceMissingError(f"the GPU's driver does not start: {error}") from error


def _releases() -> Iterator[str]:
    for path in _RELEASES:
        try:
            line = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        except OSError:
            continue
        yield ".".join(_NUMBER.findall(line))
