"""The driver's calls against the prototypes of cuda.h, over a libcuda of host memory."""

import ctypes
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from support.fake_gpu.cuda_header import PROTOTYPES, types_of
from support.fake_gpu.libcuda import CAPTURE_INVALIDATED, FakeCuda

from agent.inference.cuda import driver as driver_module
from agent.inference.cuda import errors
from agent.inference.cuda.device import Device, Memory
from agent.inference.cuda.driver import SIGNATURES, Driver
from agent.inference.cuda.errors import CudaError, DeviceLostError
from agent.inference.cuda.graph import Graph
from agent.inference.cuda.identity import identity_of
from agent.inference.memory.device_pool import DevicePool
from agent.messages.errors import DeviceMissingError, OutOfDeviceMemoryError, OutOfMemoryError


@pytest.fixture
def cuda() -> FakeCuda:
    return FakeCuda(total_bytes=1 << 20)


def pool(memory: Memory) -> DevicePool:
    return DevicePool(1 << 19, memory)


@pytest.fixture
def device(cuda: FakeCuda) -> Device:
    return Device(Driver(cuda), 0, pool)


@pytest.fixture
def lost() -> Iterator[list[str]]:
    words: list[str] = []
    errors.when_lost(words.append)
    yield words
    errors.when_lost(lambda _: None)


def test_every_signature_is_that_of_the_header() -> None:
    assert set(SIGNATURES) == set(PROTOTYPES)
    for name, types in SIGNATURES.items():
        wanted = types_of(name)
        assert [_kind(one) for one in types] == [_kind(one) for one in wanted], name


def _kind(one: type[ctypes._SimpleCData]) -> object:  # type: ignore[type-arg]
    names = {"c_void_p", "c_char_p"}
    is_pointer = one.__name__ in names or not issubclass(one, ctypes._SimpleCData)
    return "pointer" if is_pointer else (ctypes.sizeof(one), one(-1).value < 0)


def test_copies_are_done_when_waited_for(cuda: FakeCuda, device: Device) -> None:
    there = device.driver.allocate(64)
    here = device.driver.allocate_pinned(64)
    pixels = np.ctypeslib.as_array((ctypes.c_uint8 * 64).from_address(here))
    pixels[:] = 7
    device.driver.copy_to_device(there, here, 64, device.frames_stream)
    assert not cuda.view(there, 64).any()
    device.driver.synchronize(device.frames_stream)
    assert (cuda.view(there, 64) == 7).all()
    device.driver.free(there)
    device.driver.free_pinned(here)
    assert cuda.used_bytes == 0


def test_frames_go_before_loads(cuda: FakeCuda, device: Device) -> None:
    assert cuda.stream_of("high") == device.frames_stream
    assert cuda.stream_of("low") == device.loads_stream


def test_every_thread_has_the_context(device: Device) -> None:
    failed: list[BaseException] = []

    def allocate() -> None:
        try:
            device.pool.free(device.pool.allocate(16, "one"))
        except BaseException as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    thread = threading.Thread(target=allocate)
    thread.start()
    thread.join()
    assert not failed


def test_the_pool_refuses_before_the_device_is_asked(cuda: FakeCuda, device: Device) -> None:
    with pytest.raises(OutOfDeviceMemoryError):
        device.pool.allocate((1 << 19) + 1, "one")
    assert cuda.allocations == 0


def test_a_device_without_memory_says_so_in_our_words(cuda: FakeCuda, device: Device) -> None:
    cuda.fails_at = 1
    with pytest.raises(OutOfMemoryError, match="out of memory"):
        device.pool.allocate(16, "one")


def test_a_graph_does_again_what_was_captured(cuda: FakeCuda, device: Device) -> None:
    there, here = device.driver.allocate(8), device.driver.allocate_pinned(8)
    graph = Graph.capture(
        device.driver,
        device.frames_stream,
        lambda: device.driver.copy_to_device(there, here, 8, device.frames_stream),
    )
    for value in (1, 2):
        cuda.view(here, 8)[:] = value
        graph.launch(device.frames_stream)
        device.driver.synchronize(device.frames_stream)
        assert (cuda.view(there, 8) == value).all()
    graph.destroy()
    assert not cuda.graphs
    assert not cuda.executables


def test_a_capture_goes_on_while_another_thread_allocates(cuda: FakeCuda, device: Device) -> None:
    def allocate(_: int) -> None:
        thread = threading.Thread(target=lambda: device.pool.allocate(16, "another"))
        thread.start()
        thread.join(0.0)

    cuda.when_capturing.append(allocate)
    Graph.capture(device.driver, device.frames_stream, lambda: None).destroy()


def test_a_broken_capture_leaves_the_stream_usable(cuda: FakeCuda, device: Device) -> None:
    cuda.when_capturing.append(cuda.invalidate)
    with pytest.raises(CudaError) as broken:
        Graph.capture(device.driver, device.frames_stream, lambda: None)
    assert broken.value.code == CAPTURE_INVALIDATED
    assert broken.value.code in range(900, 909)
    cuda.when_capturing.clear()
    Graph.capture(device.driver, device.frames_stream, lambda: None).destroy()


@pytest.mark.parametrize("code", [214, 700, 719])
def test_a_sticky_error_is_told_and_is_no_error_of_a_frame(
    cuda: FakeCuda, device: Device, lost: list[str], code: int
) -> None:
    cuda.broken = code
    with pytest.raises(DeviceLostError, match="a new worker is needed"):
        device.driver.synchronize(device.frames_stream)
    assert len(lost) == 1
    assert str(code) in lost[0]


def test_an_error_that_passes_is_not_told(device: Device, lost: list[str]) -> None:
    with pytest.raises(CudaError, match="CUDA_ERROR"):
        device.driver.synchronize(0xBAD)
    assert not lost


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, cuda: FakeCuda) -> Iterator[FakeCuda]:
    monkeypatch.setattr(driver_module, "open_library", lambda: cuda)
    driver_module.driver.cache_clear()
    identity_of.cache_clear()
    yield cuda
    driver_module.driver.cache_clear()
    identity_of.cache_clear()


def test_a_gpu_is_known_by_its_architecture_and_its_driver(here: FakeCuda) -> None:
    found = identity_of(0)
    assert (found.name, found.sm, found.is_integrated) == ("Fake Orin", "87", True)
    assert "CUDA 12060" in found.driver
    with pytest.raises(DeviceMissingError, match="there are 1 GPUs"):
        identity_of(1)
    identity_of.cache_clear()
    here.gpus = 0
    driver_module.driver.cache_clear()
    with pytest.raises(DeviceMissingError, match="does not start"):
        identity_of(0)


@pytest.mark.usefixtures("here")
def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    driver_module.driver.cache_clear()
    monkeypatch.setattr(driver_module, "open_library", fail)
    with pytest.raises(DeviceMissingError, match=r"libcuda\.so\.1"):
        identity_of(0)
