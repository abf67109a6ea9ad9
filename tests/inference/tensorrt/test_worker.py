"""A whole worker over the fake GPU: swaps of engines with frames between, and its end when the GPU breaks."""

import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from inference.worker.dummies import PlantOfDummies
from support.fake_gpu.installed import FakeGpu, installed
from support.fake_gpu.libcuda import FakeCuda

from agent.inference import worker
from agent.inference.memory.device_pool import DevicePool
from agent.inference.preparing.build_process import prepare
from agent.inference.worker import Worker
from agent.messages.children import InferenceFailed, ModelRuns, SwapFailed, Swapped, WorkerSetup, WorkerStream
from agent.messages.references import ModelVersion
from agent.models.preparation import Request
from agent.processes.slots.frame_slot import FrameSlot, SlotWriter

COMPUTE = "tensorrt:0"
SWAPS = 30
_ENDS = """
from agent.inference import process
from agent.inference.cuda import errors
from agent.messages.children import WorkerSetup
class Inbox:
    def __init__(self):
        self.first = True
    def get(self):
        if self.first:
            self.first = False
            return WorkerSetup((), "cpu", 1 << 30, FOLDER, 10.0)
        raise errors.raised("cuGraphLaunch", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")
class Child:
    inbox = Inbox()
    busy = None
    def send(self, message):
        print(type(message).__name__, getattr(message, "text", ""), flush=True)
process.main(Child())
"""


def test_swaps_of_engines_lose_no_frame_and_no_byte(seeing: Callable[..., ModelVersion], tmp_path: Path) -> None:
    versions = [seeing(f"m{seed}", seed=seed) for seed in range(3)]
    with installed("10.3.0", FakeCuda()):  # as in a process of its own
        for version in versions:
            assert prepare(Request(version, COMPUTE, str(tmp_path)), print).result == "prepared"
    with installed("10.3.0", FakeCuda()) as gpu, ExitStack() as stack:
        plant = _start(stack, gpu, tmp_path)
        for number in range(SWAPS):
            version = versions[number % len(versions)]
            assert isinstance(plant.switch(version), Swapped)
            found = plant.detect()
            assert found.model == version.reference
            assert gpu.cuda.used_bytes == pool_of(gpu).used_bytes
        assert all(ran.processor.missing is None for ran in plant.of(ModelRuns))
        assert not plant.of(SwapFailed)
        assert not plant.of(InferenceFailed)
        assert gpu.cuda.broken == 0


def test_until_an_engine_is_built_a_line_is_served_by_the_processor(
    seeing: Callable[..., ModelVersion], tmp_path: Path
) -> None:
    with installed("10.3.0", FakeCuda()) as gpu, ExitStack() as stack:
        plant = _start(stack, gpu, tmp_path)
        plant.switch(seeing())
        plant.detect()
        assert gpu.cuda.used_bytes == 0
        (ran,) = plant.of(ModelRuns)
        assert ran.processor.processor == "cpu"
        assert ran.processor.missing == "its TensorRT engine is not built; the first load after that uses it"


def pool_of(gpu: FakeGpu) -> DevicePool:
    pool = gpu.devices.open(0).pool
    assert isinstance(pool, DevicePool)
    return pool


def _start(stack: ExitStack, gpu: FakeGpu, cache_dir: Path) -> PlantOfDummies:
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    patch.setattr(worker, "DEVICES", gpu.devices)
    slot = FrameSlot.create("cam-1")
    setup = WorkerSetup((WorkerStream("cam-1", "line-1", slot.descriptors()),), COMPUTE, 1 << 30, str(cache_dir), 60.0)
    plant = PlantOfDummies(partial(Worker, setup))
    plant.writers["cam-1"] = SlotWriter(slot.descriptors())
    plant.worker.start()
    stack.callback(plant.worker.stop)
    return plant


def test_the_workers_process_says_why_and_ends(tmp_path: Path) -> None:
    code = f"FOLDER = {str(tmp_path)!r}\n{_ENDS}"
    ended = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 71, ended.stderr
    assert "Log cuGraphLaunch: CUDA error 700 (CUDA_ERROR_ILLEGAL_ADDRESS)" in ended.stdout
