"""How many bytes this process holds, and how to make it give them back. Linux; any thread.

What the allocator gave out is counted beside what the process holds: it keeps free pages at hand that a small block in
each holds fast. What the process holds does not fall by all of a model's bytes then, nor grow by all of the next one's.
"""

import ctypes
import ctypes.util
import functools
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, cast

_STATUS: Final = Path("/proc/self/status")
_POLL_S: Final = 0.02


def process_bytes() -> int:
    """Return bytes that a model can be behind: resident anonymous pages and pages of files, and a GPU's.

    Shared memory is left out: frame slots come and go with their cameras. Unseen on a GPU so far.
    """
    return sum(resident_bytes()) + device_bytes()


def resident_bytes() -> tuple[int, int]:
    """Return how much of its anonymous pages is resident, and of files that it maps."""
    lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
    found = {name: int(size.split()[0]) * 1024 for name, size in (line.split(":") for line in lines if "Rss" in line)}
    return found.get("RssAnon", 0), found.get("RssFile", 0)


def device_bytes() -> int:
    """Return what torch holds of all GPUs for this process; 0 where it was not imported, or uses none."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is None or not cuda.is_initialized():
        return 0
    return sum(int(cuda.memory_reserved(index)) for index in range(cuda.device_count()))


@dataclass(frozen=True)
class Level:
    """What the process holds: in anonymous pages, and mapped from files or on a GPU.

    `allocated_bytes` is what its allocator has given out, which lies in the former; 0 where no allocator tells.
    """

    anonymous_bytes: int
    mapped_bytes: int
    allocated_bytes: int

    @property
    def held_bytes(self) -> int:
        """What `process_bytes` says."""
        return self.anonymous_bytes + self.mapped_bytes

    def above(self, other: "Level") -> int:
        """Return what certainly came since `other`.

        A part may have come into pages at hand and another part be mapped: the two are added, each at its larger count.
        """
        anonymous_bytes = self.anonymous_bytes - other.anonymous_bytes
        allocated_bytes = self.allocated_bytes - other.allocated_bytes
        return max(anonymous_bytes, allocated_bytes) + max(0, self.mapped_bytes - other.mapped_bytes)


def level() -> Level:
    """Look at all of it; some pages lie idle with the allocator unless it was trimmed."""
    anonymous_bytes, file_bytes = resident_bytes()
    return Level(anonymous_bytes, file_bytes + device_bytes(), allocated_bytes())


class _Mallinfo2(ctypes.Structure):
    """See mallinfo(3)."""

    _fields_: ClassVar = [
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd")),
        *((name, ctypes.c_size_t) for name in ("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")),
    ]
    hblkhd: int
    uordblks: int


def allocated_bytes() -> int:
    """Return what malloc has given out, in all of its arenas; 0 where its library does not tell (glibc before 2.33)."""
    mallinfo2 = _mallinfo2()
    if mallinfo2 is None:
        return 0
    found = mallinfo2()
    return found.uordblks + found.hblkhd


@functools.cache
def _mallinfo2() -> Callable[[], _Mallinfo2] | None:
    function = getattr(_libc(), "mallinfo2", None)
    if function is not None:
        function.restype = _Mallinfo2
    return cast("Callable[[], _Mallinfo2] | None", function)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(ctypes.util.find_library("c") or "libc.so.6")


@functools.cache
def _malloc_trim() -> Callable[[int], int] | None:
    trim: Callable[[int], int] | None = getattr(_libc(), "malloc_trim", None)  # glibc only; musl gives back by itself
    return trim


def trim() -> None:
    """Have the allocator hand free pages to the kernel: `del` alone keeps most of a model's bytes."""
    malloc_trim = _malloc_trim()
    if malloc_trim is not None:
        malloc_trim(0)


def let_go(error: BaseException) -> None:
    """Drop what the frames that an error came through hold: a model that failed would stay while it is handled."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link = link.__context__


def wait_until_at_most(level_bytes: int, timeout_s: float) -> int:
    """Trim and look until the process holds at most `level_bytes` or `timeout_s` is over; return what it holds."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        trim()
        held_bytes = process_bytes()
        if held_bytes <= level_bytes or time.monotonic() >= deadline_s:
            return held_bytes
        time.sleep(_POLL_S)
