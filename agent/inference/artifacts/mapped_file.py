"""A file in memory by mapping, whose pages can be given back while it is used."""

import mmap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from agent.files import sha256_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK_BYTES: Final = 4 << 20  # a multiple of the page's size; dropping so much holds the GIL a fraction of a ms
_DROP_EVERY_S: Final = 0.02


class MappedFile:
    """A file's bytes as an array, uint8 (n,), private: writable as runtimes want it, and never written back.

    Whoever was given the array must be gone before this object is: unmapped memory crashes a runtime that reads it.
    """

    def __init__(self, path: Path) -> None:
        """Map the file; raises OSError, and ValueError where it is empty."""
        with path.open("rb") as file:
            self._map: Final = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        self.array: Final[NDArray[np.uint8]] = np.frombuffer(self._map, np.uint8)

    def sha256(self) -> str:
        """Hash the bytes, giving their pages back on the way; they stay in the kernel's cache for who reads them next.

        The GIL is held for a moment between two chunks only.
        """

        def chunks() -> Iterator[memoryview]:
            for start in range(0, len(self.array), _CHUNK_BYTES):
                yield self.array[start : start + _CHUNK_BYTES].data
                self._drop(start)

        return sha256_of(chunks())

    def drop_pages(self) -> None:
        """Give all pages back; a page that is read again comes back from the file, with the same bytes."""
        for start in range(0, len(self.array), _CHUNK_BYTES):
            self._drop(start)

    @contextmanager
    def dropping_pages(self) -> Iterator[None]:
        """Give pages back again and again during the block: a runtime that copies a file holds it twice otherwise."""
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
        self._map.madvise(mmap.MADV_DONTNEED, start, min(_CHUNK_BYTES, len(self.array) - start))
