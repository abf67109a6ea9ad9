"""Allocates TensorRT's GPU memory from our counted pool, so that every byte of an engine is counted."""

import logging
from typing import Final

import tensorrt as trt

from agent.inference.cuda.device import Pool
from agent.messages.errors import OutOfMemoryError

_LOG: Final = logging.getLogger(__name__)
_REFUSED: Final = 0  # a null pointer; None would be reported as a fault of ours


class PoolAllocator(trt.IGpuAllocator):  # type: ignore[misc]
    """Allocator of one engine; `owner` is its model's reference. Threading: any thread of TensorRT.

    All methods are overridden, because TensorRT calls both the old and the new ones. An exception would not reach the
    caller through TensorRT, so the last refusal is kept.
    """

    def __init__(self, pool: Pool, owner: str) -> None:
        trt.IGpuAllocator.__init__(self)
        self._pool: Final = pool
        self._owner: Final = owner
        self.refusal: OutOfMemoryError | None = None
        """Error of the last allocation that was refused; None without one."""

    def allocate(self, size: int, alignment: int, flags: int) -> int:
        """Allocate; the driver's alignment of 256 bytes is enough for every tensor."""
        del alignment, flags
        try:
            return self._pool.allocate(int(size), self._owner)
        except OutOfMemoryError as error:
            self.refusal = error
            return _REFUSED

    def allocate_async(self, size: int, alignment: int, flags: int, stream: int) -> int:
        """Allocate at once, without waiting for the stream."""
        del stream
        return self.allocate(size, alignment, flags)

    def reallocate(self, address: int, alignment: int, new_size: int) -> int:
        """Refuse, whereupon TensorRT allocates new memory."""
        del address, alignment, new_size
        return _REFUSED

    def deallocate(self, memory: int) -> bool:
        """Free an allocation; False where the driver fails, because nothing may be raised through TensorRT."""
        try:
            self._pool.free(int(memory or 0))
        except Exception as error:  # noqa: BLE001 - the edge to TensorRT
            _LOG.warning("event=gpu_memory_not_freed owner=%s error=%r", self._owner, error)
            return False
        return True

    def deallocate_async(self, memory: int, stream: int) -> bool:
        """Free at once; the driver waits for work that uses the memory."""
        del stream
        return self.deallocate(memory)
