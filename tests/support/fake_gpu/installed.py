"""Puts the fakes where the agent finds a GPU: in this process, and in the walled one that builds engines."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.inference import backends
from agent.inference.artifacts import artifact_store
from agent.inference.backends import choice
from agent.inference.cuda import device, driver, errors, identity
from agent.inference.cuda.device import Devices, MakePool
from agent.processes.package_version import version_of
from support.fake_gpu.libcuda import FakeCuda
from support.fake_gpu.tensorrt_module import fake_tensorrt

_TESTS = str(Path(__file__).parents[2])
_NAMES = ("agent.inference.backends.tensorrt", "agent.inference.backends.engine_build")


@dataclass
class FakeGpu:
    """An installed GPU with TensorRT."""

    cuda: FakeCuda
    trt: Any
    version: str
    devices: Devices


@contextmanager
def installed(
    version: str, cuda: FakeCuda, make_pool: MakePool | None = None, *, sm: str = "87", built_by: str = ""
) -> Iterator[FakeGpu]:
    """Install `cuda`, and TensorRT of `version` over it; the walled process has TensorRT `built_by`, or the same."""
    with pytest.MonkeyPatch.context() as patch:
        trt = fake_tensorrt(version, cuda, sm)
        patch.setitem(sys.modules, "tensorrt", trt)
        for name in [name for name in sys.modules if name.startswith(_NAMES)]:
            patch.delitem(sys.modules, name)
        for name in ("tensorrt", "engine_build"):
            patch.delattr(backends, name, raising=False)
        patch.setattr(driver, "open_library", lambda: cuda)
        devices = Devices()
        if make_pool is not None:
            devices.count_with(make_pool)
        patch.setattr(device, "DEVICES", devices)

        def version_here(library: str) -> str | None:
            return version if library == "tensorrt" else version_of(library)

        patch.setattr(choice, "faults", lambda compute: () if compute.startswith("tensorrt") else ("no CUDA",))
        patch.setattr(artifact_store, "version_of", version_here)
        _forget()
        from agent.inference.backends.engine_build import walled_build  # noqa: PLC0415 - over this TensorRT

        patch.setattr(walled_build, "command", lambda: _opener(built_by or version, sm))
        try:
            yield FakeGpu(cuda, trt, version, devices)
        finally:
            for name in [name for name in sys.modules if name.startswith(_NAMES)]:
                del sys.modules[name]
            for name in ("tensorrt", "engine_build"):
                vars(backends).pop(name, None)
            errors.when_lost(lambda _: None)
    _forget()


def _forget() -> None:
    driver.driver.cache_clear()
    identity.identity_of.cache_clear()
    artifact_store._release.cache_clear()


def _opener(version: str, sm: str) -> tuple[str, ...]:
    code = (
        f"import runpy, sys; sys.path.insert(0, {_TESTS!r})\n"
        "from support.fake_gpu.tensorrt_module import fake_tensorrt\n"
        f"sys.modules['tensorrt'] = fake_tensorrt({version!r}, sm={sm!r})\n"
        "runpy.run_module('agent.inference.backends.engine_build.engine_process', run_name='__main__')"
    )
    return (sys.executable, "-I", "-c", code)
