"""Counts every byte of GPU memory that models allocate, and refuses what exceeds the limit. Imports no runtime."""

import threading
from collections import Counter
from typing import Final, Protocol

from agent.messages.errors import OutOfDeviceMemoryError

_NOTHING: Final = 0  # the address of an allocation of no bytes, as in C


class DeviceMemory(Protocol):
    """The memory of one GPU. Threading: any thread may call any method concurrently."""

    def allocate(self, size_bytes: int) -> int:
        """Return the address of `size_bytes` of new memory, never 0. Raises OutOfMemoryError."""

    def free(self, address: int) -> None:
        """Free an allocation; the memory is free when this returns."""

    def info(self) -> tuple[int, int]:
        """Return the free and the total bytes of the device, as its driver reports them."""


class DevicePool:
    """Pool of GPU memory within `limit_bytes`, counted by owner: a model's reference, or a runtime's name.

    Bytes are counted before the device allocates them and until it has freed them, so models and runtimes never hold
    more than `used_bytes`. Threading: any thread; the device is called without the lock.
    """

    def __init__(self, limit_bytes: int, memory: DeviceMemory) -> None:
        self.limit_bytes: Final = limit_bytes
        self._memory: Final = memory
        self._lock: Final = threading.Lock()
        self._used_bytes = 0
        self._owned_bytes: Final[Counter[str]] = Counter()
        self._allocations: Final[dict[int, tuple[int, str]]] = {}  # size and owner, by address

    @property
    def used_bytes(self) -> int:
        """Bytes that are allocated now, including those of allocations in progress."""
        with self._lock:
            return self._used_bytes

    def used_by(self, owner: str) -> int:
        """Return the bytes that are allocated for `owner` now."""
        with self._lock:
            return self._owned_bytes[owner]

    def info(self) -> tuple[int, int]:
        """Return the free and the total bytes of the whole device."""
        return self._memory.info()

    def allocate(self, size_bytes: int, owner: str) -> int:
        """Allocate `size_bytes` for `owner` and return the address; 0 for no bytes.

        Raises OutOfDeviceMemoryError where the limit would be exceeded, without asking the device, ValueError for a
        negative size, and what the device raises.
        """
        if size_bytes < 0:
            raise ValueError(f"{size_bytes} bytes were asked for by {owner}")
        if not size_bytes:
            return _NOTHING
        self._reserve(size_bytes, owner)
        try:
            address = self._memory.allocate(size_bytes)
        except BaseException:
            self._forget(size_bytes, owner)
            raise
        with self._lock:
            self._allocations[address] = (size_bytes, owner)
        return address

    def free(self, address: int) -> None:
        """Free an allocation; its bytes stay counted where the device fails to free it.

        Raises ValueError for an address that is not allocated, and what the device raises.
        """
        if address == _NOTHING:
            return
        with self._lock:  # taken out first, because the device may give the address to another thread at once
            allocation = self._allocations.pop(address, None)
        if allocation is None:
            raise ValueError(f"{address:#x} is not allocated in this pool")
        try:
            self._memory.free(address)
        except BaseException:
            with self._lock:
                self._allocations[address] = allocation
            raise
        self._forget(*allocation)

    def _reserve(self, size_bytes: int, owner: str) -> None:
        with self._lock:
            short_bytes = self._used_bytes + size_bytes - self.limit_bytes
            if short_bytes > 0:
                raise OutOfDeviceMemoryError(
                    f"{owner} asks for {size_bytes >> 10} KiB of GPU memory; {self._used_bytes >> 10} KiB of a budget "
                    f"of {self.limit_bytes >> 10} KiB are in use",
                    short_bytes,
                )
            self._count(size_bytes, owner)

    def _forget(self, size_bytes: int, owner: str) -> None:
        with self._lock:
            self._count(-size_bytes, owner)

    def _count(self, size_bytes: int, owner: str) -> None:
        self._used_bytes += size_bytes
        self._owned_bytes[owner] += size_bytes
        if not self._owned_bytes[owner]:
            del self._owned_bytes[owner]
