"""A fake GPU for both ways of half precision, and models to build, for the tests of engines."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.fake_gpu.installed import FakeGpu, installed
from support.fake_gpu.libcuda import FakeCuda
from support.seeing_models import write_seeing_model

from agent.files import file_sha256
from agent.inference.artifacts.artifact_store import Opened
from agent.inference.memory.device_pool import DevicePool
from agent.messages.references import ModelVersion

LIMIT_BYTES = 64 << 20


@pytest.fixture(params=["10.3.0", "11.4.0.106"])
def gpu(request: pytest.FixtureRequest) -> Iterator[FakeGpu]:
    with installed(request.param, FakeCuda(), partial(DevicePool, LIMIT_BYTES)) as found:
        yield found


@pytest.fixture
def one_gpu() -> Iterator[FakeGpu]:
    """Install a GPU for what does not depend on TensorRT's version."""
    with installed("10.3.0", FakeCuda(), partial(DevicePool, LIMIT_BYTES)) as found:
        yield found


@pytest.fixture
def seeing(version: Callable[..., ModelVersion], tmp_path: Path) -> Callable[..., ModelVersion]:
    """Write catalog entries for models that see colours; options are those of `write_seeing_model`."""

    def write(name: str = "seeing", **options: object) -> ModelVersion:
        path = write_seeing_model(tmp_path / f"{name}.onnx", **options)  # type: ignore[arg-type]
        layout = {"layout": "v5"} if options.get("head") == "objectness" else {}
        return version(path, name=name, sha256=file_sha256(path), confidence=0.5, **layout)

    return write


@pytest.fixture
def entry(seeing: Callable[..., ModelVersion]) -> ModelVersion:
    return seeing()


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Opened]:
    """Build an engine of a version, and open it as the store does."""

    def make(version: ModelVersion, precision: str = "f32", compute: str = "tensorrt:0") -> Opened:
        from agent.inference import backends  # noqa: PLC0415 - over the fake

        folder = tmp_path / f"{version.name}-{version.version}-{precision}"
        folder.mkdir()
        return Opened.made(folder, backends.make(version, compute, folder, precision, cache_dir=tmp_path / "cache"))

    return make
