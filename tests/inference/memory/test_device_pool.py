"""The pool counts what the device holds, whatever is asked of it in whatever order."""

import random
import sys
import threading

import pytest
from support.fake_device import FakeDevice

from agent.inference.memory.device_pool import DevicePool
from agent.messages.errors import OutOfDeviceMemoryError, OutOfMemoryError

LIMIT_BYTES = 1000


@pytest.fixture
def device() -> FakeDevice:
    return FakeDevice(total_bytes=10 * LIMIT_BYTES)


@pytest.fixture
def pool(device: FakeDevice) -> DevicePool:
    return DevicePool(LIMIT_BYTES, device)


def test_counts_by_owner_until_freed(pool: DevicePool, device: FakeDevice) -> None:
    first = pool.allocate(300, "cap:n")
    second = pool.allocate(200, "cap:n")
    pool.allocate(100, "tensorrt")
    assert (pool.used_bytes, pool.used_by("cap:n"), pool.used_by("tensorrt"), pool.used_by("x")) == (600, 500, 100, 0)
    pool.free(first)
    assert (pool.used_bytes, pool.used_by("cap:n")) == (300, 200)
    pool.free(second)
    assert (pool.used_bytes, pool.used_by("cap:n")) == (100, 0)
    assert device.used_bytes == 100


def test_up_to_the_limit_and_not_a_byte_beyond(pool: DevicePool, device: FakeDevice) -> None:
    pool.allocate(LIMIT_BYTES, "cap:n")
    asked = device.asked
    with pytest.raises(OutOfDeviceMemoryError, match=r"cap:m asks for 0 KiB") as refused:
        pool.allocate(1, "cap:m")
    assert (refused.value.reason, refused.value.short_bytes) == ("no_memory", 1)
    assert device.asked == asked, "the device was asked for what the pool refuses"
    assert (pool.used_bytes, pool.used_by("cap:m")) == (LIMIT_BYTES, 0)


def test_a_failed_allocation_counts_nothing(pool: DevicePool, device: FakeDevice) -> None:
    device.fails = True
    with pytest.raises(OutOfMemoryError, match="CUDA error 2"):
        pool.allocate(10, "cap:n")
    assert (pool.used_bytes, pool.used_by("cap:n")) == (0, 0)


def test_what_the_device_fails_to_free_stays_counted(pool: DevicePool, device: FakeDevice) -> None:
    address = pool.allocate(10, "cap:n")
    device.fails = True
    with pytest.raises(RuntimeError, match="700"):
        pool.free(address)
    assert pool.used_by("cap:n") == pool.used_bytes == 10
    device.fails = False
    pool.free(address)
    assert pool.used_bytes == 0


def test_no_bytes_are_no_allocation(pool: DevicePool, device: FakeDevice) -> None:
    assert pool.allocate(0, "cap:n") == 0
    pool.free(0)
    assert device.asked == 0


def test_an_address_is_freed_once(pool: DevicePool) -> None:
    address = pool.allocate(10, "cap:n")
    pool.free(address)
    for wrong in (address, 12345):
        with pytest.raises(ValueError, match="is not allocated"):
            pool.free(wrong)
    with pytest.raises(ValueError, match="-1 bytes"):
        pool.allocate(-1, "cap:n")
    assert pool.used_bytes == 0


def test_every_step_equals_the_device(pool: DevicePool, device: FakeDevice) -> None:
    dice = random.Random(16)
    mine: list[tuple[int, int, str]] = []
    for _ in range(10_000):
        device.fails = dice.random() < 0.1
        size_bytes, owner = dice.randrange(1, 300), dice.choice("abcde")
        try:
            if mine and dice.random() < 0.5:
                chosen = mine.pop(dice.randrange(len(mine)))
                try:
                    pool.free(chosen[0])
                except RuntimeError:
                    mine.append(chosen)
            else:
                mine.append((pool.allocate(size_bytes, owner), size_bytes, owner))
        except OutOfMemoryError:
            pass
        assert pool.used_bytes == device.used_bytes == sum(size for _, size, _ in mine)
        assert pool.used_by("a") == sum(size for _, size, owner in mine if owner == "a")
    assert device.most_bytes <= LIMIT_BYTES


def test_threads_never_exceed_the_limit_together(pool: DevicePool, device: FakeDevice) -> None:
    failures: list[BaseException] = []

    def churn(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for _ in range(500):
                try:
                    address = pool.allocate(dice.randrange(1, 600), str(seed))
                except OutOfDeviceMemoryError:
                    continue
                assert device.used_bytes <= pool.limit_bytes
                pool.free(address)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test's own thread says it
            failures.append(error)

    before_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before_s)
    assert not failures
    assert (pool.used_bytes, device.used_bytes) == (0, 0)
    assert device.most_bytes <= LIMIT_BYTES
