"""Measures the host memory of this process, and returns free memory to the kernel. Linux; any thread."""

import ctypes
import functools
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from agent.models.child_environment import TOP_BYTES

_STATUS: Final = Path("/proc/self/status")
_POLL_S: Final = 0.02
_M_TRIM_THRESHOLD: Final = -1  # of malloc.h
_GIVEN_BACK_BYTES: Final = 1 << 20
_LARGE_BYTES: Final = 128 << 10
"""Beyond the 64 KiB from which on glibc looks at a heap's top as such a block is freed."""


def process_bytes() -> int:
    """Return the host memory of this process in bytes: resident anonymous pages and file pages.

    Shared memory is left out, because frame slots come and go with their cameras.
    """
    wanted = ("RssAnon:", "RssFile:")
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


@functools.cache
def _glibc() -> ctypes.CDLL | None:
    """Return glibc's allocator; None for another one, such as musl's, which frees memory by itself."""
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return None
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes = [ctypes.c_void_p]
    return library


class _HeapTops:
    """Switch for what glibc keeps at the top of each thread's heap, which `malloc_trim` does not return."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._blocks = 0

    @contextmanager
    def given_back(self, glibc: ctypes.CDLL) -> Iterator[None]:
        """Run the block while tops of more than 1 MiB are returned; blocks may overlap."""
        with self._lock:
            self._blocks += 1
            glibc.mallopt(_M_TRIM_THRESHOLD, _GIVEN_BACK_BYTES)
        try:
            yield
        finally:
            with self._lock:
                self._blocks -= 1
                if not self._blocks:
                    glibc.mallopt(_M_TRIM_THRESHOLD, TOP_BYTES)


_tops: Final = _HeapTops()


@contextmanager
def giving_back() -> Iterator[None]:
    """Run the block, which closes a model and trims, so that its memory leaves the heaps of all threads.

    The block has to trim, because a small block that lies above the model's bytes keeps them from being a heap's top.
    """
    glibc = _glibc()
    with _tops.given_back(glibc) if glibc is not None else nullcontext():
        yield


def trim() -> None:
    """Return free pages to the kernel, because the allocator keeps most of a model's bytes after `del`.

    The tops of other threads' heaps stay, but for what was freed in a block of `giving_back`.
    """
    glibc = _glibc()
    if glibc is None:
        return
    with _tops.given_back(glibc):
        glibc.free(glibc.malloc(_LARGE_BYTES))  # because a large `free` looks at the top of the caller's heap
    glibc.malloc_trim(0)


def let_go(error: BaseException) -> None:
    """Clear the stack frames of an error, because they would keep a failed model alive while it is handled."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


def wait_until_at_most(level_bytes: int, timeout_s: float) -> int:
    """Trim until the process holds at most `level_bytes`, or `timeout_s` has passed; return its present bytes."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        trim()
        held_bytes = process_bytes()
        if held_bytes <= level_bytes or time.monotonic() >= deadline_s:
            return held_bytes
        time.sleep(_POLL_S)
