"""Resolves the setting `compute` to a processor of this device, and says why."""

from dataclasses import dataclass
from functools import cache
from typing import Final

from agent.inference.processors.host import THIS_HOST, Host
from agent.inference.processors.nvidia import device_faults, onnxruntime_faults, tensorrt_faults
from agent.processes.package_version import version_of

host: Host = THIS_HOST
"""The device whose processors are asked for; tests replace it."""

_TENSORRT_IS_HERE: Final = 'TensorRT is here: compute = "tensorrt:0" uses it'


@dataclass(frozen=True)
class Choice:
    """The processor that a setting chooses for an .onnx file."""

    compute: str
    """cpu, cuda:N or tensorrt:N."""
    reason: str
    """Reason of the choice, as text for a user."""
    missing: tuple[str, ...] = ()
    """Obstacles that keep `auto` from choosing the GPU of this device; empty without any, or without a GPU."""


def choose(setting: str) -> Choice:
    """Return the processor for a setting: a named one unchanged; for `auto` a GPU that lacks nothing, else the CPU."""
    if setting == "auto":
        return _automatic(host)
    return Choice(setting, f'compute = "{setting}"')


def split(compute: str) -> tuple[str, int]:
    """Return kind and index of a processor: `cuda:1` is cuda and 1, `cpu` is cpu and 0."""
    kind, _, index = compute.partition(":")
    return kind, int(index) if index.isdecimal() else 0


def has_gpu() -> bool:
    """Return True where this device has an NVIDIA GPU's node, whether or not anything can use it."""
    return host.has_node()


def card_faults(index: int) -> tuple[str, ...]:
    """Return the reasons why no CUDA program can use GPU `index`; empty without any."""
    return tuple(device_faults(index, host))


def faults(compute: str) -> tuple[str, ...]:
    """Return the reasons why a processor cannot serve an .onnx file; empty without any.

    Only what can be seen without starting the processor is checked.
    """
    kind, index = split(compute)
    if kind == "cuda":
        return tuple(onnxruntime_faults(index, host))
    return tuple(tensorrt_faults(index, host)) if kind == "tensorrt" else ()


@cache
def _automatic(here: Host) -> Choice:
    if not here.has_node():
        return Choice("cpu", "this device has no NVIDIA card")
    faults = tuple(onnxruntime_faults(0, here))
    if faults and not any(tensorrt_faults(0, here)):
        faults = (*faults, _TENSORRT_IS_HERE)
    if faults:
        return Choice("cpu", "the GPU of this device cannot be used", faults)
    return Choice("cuda:0", f"the GPU of this device, by onnxruntime {version_of('onnxruntime')}")
