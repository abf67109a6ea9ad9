"""The checklist for a machine with a GPU, over the fake one: every step runs, and its report tells nobody's name."""

import json
import os
import platform
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from support.fake_gpu.installed import FakeGpu, installed
from support.fake_gpu.libcuda import FakeCuda

from agent.bench.gpu import checklist
from agent.bench.gpu.checklist import STEPS, Bench
from agent.inference.memory.device_pool import DevicePool
from agent.messages.references import ModelVersion

Seeing = Callable[..., ModelVersion]
LIMIT_BYTES = 1 << 20


@pytest.fixture
def small_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    monkeypatch.setattr(checklist, "_FRAMES", 5)
    with installed("10.3.0", FakeCuda(), partial(DevicePool, LIMIT_BYTES)) as gpu:
        yield gpu


def test_every_step_passes_and_is_reported(small_gpu: FakeGpu, seeing: Seeing, tmp_path: Path) -> None:
    bench = Bench(seeing(imgsz=128), "tensorrt:0", tmp_path / "cache", swaps=6)
    said: list[str] = []
    report = checklist.run(bench, said.append)
    assert report["passed"], said
    assert len(said) == len(STEPS)
    assert report["device"]["sm"] == "87"
    assert report["swaps"]["swaps"] == 6
    assert report["budget"]["was_refused"]
    assert report["budget"]["all_bytes"] <= LIMIT_BYTES
    assert report["budget"]["missing_on_the_device_bytes"]["cuMemGetInfo"] <= LIMIT_BYTES
    assert small_gpu.cuda.used_bytes == 0
    written = json.dumps(report)
    for private in (str(tmp_path), f'"{platform.node()}"', os.environ.get("HOME", "/root")):
        assert private not in written


@pytest.mark.usefixtures("small_gpu")
def test_a_machine_without_a_gpu_is_told_at_the_first_step(seeing: Seeing, tmp_path: Path) -> None:
    report = checklist.run(Bench(seeing(), "tensorrt:5", tmp_path / "cache", swaps=1), print)
    assert not report["passed"]
    assert "GPU 5 is not one of them" in report["device"]["error"]
    assert "build" not in report


def test_gpu_memory_that_a_swap_leaves_is_a_failure(small_gpu: FakeGpu, seeing: Seeing, tmp_path: Path) -> None:
    bench = Bench(seeing(imgsz=128), "tensorrt:0", tmp_path / "cache", swaps=3)
    checklist.build(bench)
    leaked: list[int] = []
    load = bench.load

    def load_and_leak(name: str = "") -> object:
        leaked.append(bench.pool.allocate(16, "a leak"))
        return load(name)

    bench.load = load_and_leak  # type: ignore[method-assign, assignment]
    with pytest.raises(AssertionError, match="left GPU memory"):
        checklist.swap(bench)
    assert small_gpu.cuda.used_bytes > 0
