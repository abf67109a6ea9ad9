"""Measures the host memory of this process, and returns free memory to the kernel. Linux; any thread."""

import ctypes
import ctypes.util
import functools
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/self/status")
_POLL_S: Final = 0.02


def process_bytes() -> int:
    """Return the host memory of this process in bytes: resident anonymous pages and file pages.

    Shared memory is left out, because frame slots come and go with their cameras.
    """
    wanted = ("RssAnon:", "RssFile:")
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(wanted))


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name or "libc.so.6")
    trim: Callable[[int], int] | None = getattr(library, "malloc_trim", None)  # glibc only; musl frees memory by itself
    return trim


def trim() -> None:
    """Return free pages to the kernel, because the allocator keeps most of a model's bytes after `del`."""
    malloc_trim = _malloc_trim()
    if malloc_trim is not None:
        malloc_trim(0)


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
