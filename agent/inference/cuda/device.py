"""One GPU in this process: its context, its streams, and the pool that its memory is allocated from."""

import threading
from collections.abc import Callable
from typing import Final, Protocol

from agent.inference.cuda.driver import Driver, driver
from agent.inference.cuda.errors import OUT_OF_MEMORY, CudaError
from agent.messages.errors import OutOfMemoryError


class Memory(Protocol):
    """The memory of one GPU; `DeviceMemory` in agent/inference/memory describes the methods."""

    def allocate(self, size_bytes: int) -> int: ...  # noqa: D102 - said there
    def free(self, address: int) -> None: ...  # noqa: D102
    def info(self) -> tuple[int, int]: ...  # noqa: D102


class Pool(Protocol):
    """Counted GPU memory; `DevicePool` in agent/inference/memory describes the methods."""

    def allocate(self, size_bytes: int, owner: str) -> int:
        """Return the address of new memory. Raises OutOfMemoryError where the pool or the GPU has too little."""

    def free(self, address: int) -> None:
        """Free an allocation."""

    def used_by(self, owner: str) -> int:
        """Return the bytes that are allocated for `owner` now."""

    @property
    def used_bytes(self) -> int:
        """Bytes that are allocated now."""


MakePool = Callable[[Memory], Pool]


class _Uncounted:
    """The pool of a process without a budget, such as one that prepares an artifact."""

    used_bytes: Final = 0

    def __init__(self, memory: Memory) -> None:
        self._memory: Final = memory

    def used_by(self, owner: str) -> int:
        del owner
        return 0

    def allocate(self, size_bytes: int, owner: str) -> int:
        del owner
        return self._memory.allocate(size_bytes) if size_bytes else 0

    def free(self, address: int) -> None:
        if address:
            self._memory.free(address)


class Device:
    """A GPU whose primary context this process holds until it ends. Threading: any thread."""

    def __init__(self, cuda: Driver, index: int, make_pool: MakePool) -> None:
        """Create the context and the streams, which takes some hundred MiB and a tenth of a second."""
        self.driver: Final = cuda
        self.context: Final = cuda.retain_context(cuda.device(index))
        self._threads: Final = threading.local()
        self.enter()
        least, greatest = cuda.priorities()
        self.frames_stream: Final = cuda.new_stream(greatest)
        """Stream of high priority, for frames."""
        self.loads_stream: Final = cuda.new_stream(least)
        """Stream of low priority, for loads and warm-ups."""
        self.pool: Final = make_pool(_DriverMemory(self))

    def enter(self) -> None:
        """Make the context current to the calling thread, once."""
        if not getattr(self._threads, "is_inside", False):
            self.driver.make_current(self.context)
            self._threads.is_inside = True


class _DriverMemory:
    def __init__(self, device: Device) -> None:
        self._device: Final = device

    def allocate(self, size_bytes: int) -> int:
        self._device.enter()
        try:
            return self._device.driver.allocate(size_bytes)
        except CudaError as error:
            if error.code == OUT_OF_MEMORY:
                raise OutOfMemoryError(f"the GPU has not {size_bytes >> 10} KiB: out of memory") from error
            raise

    def free(self, address: int) -> None:
        self._device.enter()
        self._device.driver.free(address)

    def info(self) -> tuple[int, int]:
        self._device.enter()
        return self._device.driver.memory()


class Devices:
    """The GPUs of this process, each opened when it is first used. Threading: any thread."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._opened: Final[dict[int, Device]] = {}
        self._make_pool: MakePool = _Uncounted

    def count_with(self, make_pool: MakePool) -> None:
        """Give each GPU that is opened from now on a memory pool that `make_pool` creates."""
        self._make_pool = make_pool

    def used_bytes(self) -> int:
        """Return the bytes of memory that are allocated on all GPUs."""
        with self._lock:
            return sum(device.pool.used_bytes for device in self._opened.values())

    def open(self, index: int) -> Device:
        """Return GPU `index`. Raises OSError without a driver, and CudaError where a call of it fails."""
        with self._lock:
            if index not in self._opened:
                self._opened[index] = Device(driver(), index, self._make_pool)
            return self._opened[index]


DEVICES: Final = Devices()
"""The only instance of this process, because a context and its memory belong to the whole process."""
