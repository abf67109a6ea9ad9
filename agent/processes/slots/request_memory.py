"""Shared memory of inference requests: a few blocks, each of which holds one request's pictures and tensors.

The web process gives blocks to requests. A worker reads and writes a block only between a request and its answer, so no
lock is needed; a block is free again once its request has given it back. Both sides check what the other says of it.
"""

import fcntl
import os
from mmap import MADV_REMOVE, mmap
from typing import Final

BLOCKS: Final = 4
BLOCK_BYTES: Final = 32 << 20
MOST_HELD_BYTES: Final = 96 << 20
"""Most bytes of bodies and messages that the web process holds for the requests of one group."""
ALIGNMENT: Final = 64


def create(name: str) -> int:
    """Create the memory, which takes no page before it is written; sealed, because shrinking would cause SIGBUS."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, BLOCKS * BLOCK_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor


def aligned(size_bytes: int) -> int:
    """Return the first offset of a tensor behind one of `size_bytes`."""
    return -(-size_bytes // ALIGNMENT) * ALIGNMENT


class RequestMemory:
    """A process's mapping of the blocks; views of different blocks may be used by different threads."""

    def __init__(self, descriptor: int) -> None:
        self._memory: Final = mmap(descriptor, BLOCKS * BLOCK_BYTES)
        self._view: Final = memoryview(self._memory)

    def block(self, number: int) -> memoryview:
        """Return a writable view of a block. Raises IndexError for a number that is none."""
        if not 0 <= number < BLOCKS:
            raise IndexError(f"no block {number}")
        return self._view[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]

    def give_back(self, number: int) -> None:
        """Return a block's pages to the system; nobody may use the block meanwhile."""
        self._memory.madvise(MADV_REMOVE, number * BLOCK_BYTES, BLOCK_BYTES)
