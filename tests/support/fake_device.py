"""A GPU's memory of plain numbers, that reuses addresses and fails when it is told to."""

import threading
from typing import Final

from agent.messages.errors import OutOfMemoryError

_FIRST_ADDRESS: Final = 0x7F0000000000


class FakeDevice:
    """Implements `DeviceMemory`; knows every allocation, and refuses what it never gave out."""

    def __init__(self, total_bytes: int) -> None:
        self.total_bytes: Final = total_bytes
        self.sizes: Final[dict[int, int]] = {}
        self.most_bytes = 0
        """The most bytes that were ever allocated together."""
        self.fails = False
        """The next calls fail, as those of a device without memory, or with a broken context."""
        self.asked = 0
        self.fails_at: int | None = None
        """The number of the call of `allocate` that fails, counted from 1."""
        self._lock: Final = threading.Lock()
        self._free_addresses: Final[list[int]] = []
        self._next_address = _FIRST_ADDRESS

    @property
    def used_bytes(self) -> int:
        with self._lock:
            return sum(self.sizes.values())

    def allocate(self, size_bytes: int) -> int:
        with self._lock:
            self.asked += 1
            if self.fails or self.asked == self.fails_at or sum(self.sizes.values()) + size_bytes > self.total_bytes:
                raise OutOfMemoryError("CUDA error 2: out of memory")
            address = self._free_addresses.pop() if self._free_addresses else self._next_address
            if address == self._next_address:
                self._next_address += 1 << 32
            self.sizes[address] = size_bytes
            self.most_bytes = max(self.most_bytes, sum(self.sizes.values()))
            return address

    def free(self, address: int) -> None:
        with self._lock:
            if self.fails:
                raise RuntimeError("CUDA error 700: an illegal memory access was encountered")
            del self.sizes[address]
            self._free_addresses.append(address)

    def info(self) -> tuple[int, int]:
        with self._lock:
            return self.total_bytes - sum(self.sizes.values()), self.total_bytes
