"""A memory-mapped file whose pages can be returned to the kernel while it is in use."""

import ctypes
import mmap
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.files import sha256_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK_BYTES: Final = 16 << 20  # a multiple of the page's size; more would count as the process's memory
_DROP_EVERY_S: Final = 0.02


class MappedFile:
    """A file mapped into memory as `array`, uint8 (n,); it is writable for runtimes, and changes never reach the file.

    Every user of the array must be dropped before this object, because a read of unmapped memory crashes the process.
    """

    def __init__(self, path: Path) -> None:
        """Map the file; raises OSError, and ValueError where it is empty."""
        with path.open("rb") as file:
            self._map: Final = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        self.array: Final[NDArray[np.uint8]] = np.frombuffer(self._map, np.uint8)
        self._address: Final = self.array.ctypes.data
        self._madvise: Final = ctypes.CDLL(None, use_errno=True).madvise  # mmap's own holds the GIL
        self._madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]

    def sha256(self) -> str:
        """Return the sha256 of the file, and release its pages, which stay in the kernel's page cache.

        The GIL is free but for a moment between two chunks, because a frame may wait for it.
        """

        def chunks() -> Iterator[memoryview]:
            for start in range(0, len(self.array), _CHUNK_BYTES):
                yield self.array[start : start + _CHUNK_BYTES].data
                self._drop(start)

        return sha256_of(chunks())

    def drop_pages(self) -> None:
        """Release all pages to the kernel; a later read loads a page from the file again."""
        for start in range(0, len(self.array), _CHUNK_BYTES):
            self._drop(start)

    @contextmanager
    def dropping_pages(self) -> Iterator[None]:
        """Run the block, and release all pages periodically meanwhile.

        Because a runtime that copies the file would otherwise hold it twice.
        """
        done = threading.Event()

        def drop() -> None:
            while not done.wait(_DROP_EVERY_S):
                self.drop_pages()

        thread = threading.Thread(target=drop, name="page-dropper", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.drop_pages()

    def _drop(self, start: int) -> None:
        size_bytes = min(_CHUNK_BYTES, len(self.array) - start)
        if self._madvise(self._address + start, size_bytes, mmap.MADV_DONTNEED):
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
