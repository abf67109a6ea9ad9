"""Memory layout of a frame slot, and the fences that order its loads and stores.

A header page of 64-bit words, then three buffers, in one sealed memfd. The file is sparse: a page costs nothing until a
frame touches it. Each word has one writer (the camera process or the worker), and is stored and loaded whole, because a
`memoryview` of format "q" compiles to one aligned 8-byte access.
"""

import fcntl
import os
import threading
from mmap import mmap
from typing import Final

BUFFERS: Final = 3
HEADER_BYTES: Final = 4096
CAPACITY_BYTES: Final = 7680 * 4320 * 3
SLOT_BYTES: Final = HEADER_BYTES + BUFFERS * CAPACITY_BYTES

NOBODY: Final = -1
NOTHING: Final = -1

# Written by the camera process. LATEST is `frame number << 2 | buffer`, so both change in one store.
LATEST: Final = 0
LAST_OFFERED_NS: Final = 1
# Written by the worker. MARK is the buffer that it reads. Two records (number of the last frame taken, how many were
# taken) are used in turn: TURN is stored last, so a worker killed in between leaves the record before it whole.
MARK: Final = 8
TORN: Final = 9
TURN: Final = 10
_RECORDS: Final = 11
# One group for each buffer, written by the camera process; SEQUENCE is odd while the buffer is being written.
_GROUPS: Final = 32
# OF_WIDTH and OF_HEIGHT: the camera's picture that the frame was scaled down from; 0 where it has its own size.
GROUP_WORDS: Final = 9
SEQUENCE, WIDTH, HEIGHT, FRAME, CAPTURED_NS, CAPTURED_UNIX_NS, OFFERED_NS, OF_WIDTH, OF_HEIGHT = range(GROUP_WORDS)

_FENCE: Final = threading.Lock()


def fence() -> None:
    """Keep earlier loads and stores before later ones, on x86-64 and on aarch64.

    Each lock operation is an atomic read-modify-write. On x86-64 one is a full barrier. On aarch64 neighbours may move
    into a single one from both sides, but none can pass the release of the first and the acquire of the second.
    """
    with _FENCE:
        pass
    with _FENCE:
        pass


def group(buffer: int) -> int:
    """Return the index of the first word of a buffer's group."""
    return _GROUPS + buffer * GROUP_WORDS


def is_possible(buffer: int, height: int, width: int) -> bool:
    """Return True where buffer and size are in range; checked because the writer may be a compromised process."""
    return 0 <= buffer < BUFFERS and height > 0 and width > 0 and height * width * 3 <= CAPACITY_BYTES


def pixels(buffer: int) -> int:
    """Return the byte offset of a buffer's pixels."""
    return HEADER_BYTES + buffer * CAPACITY_BYTES


def words_of(memory: mmap) -> "memoryview[int]":
    """Return the header of a mapped slot as a view of 64-bit words."""
    return memoryview(memory)[:HEADER_BYTES].cast("q")


def create_memory(name: str) -> int:
    """Create a slot's memory and return its descriptor; sealed, because shrinking would give a reader SIGBUS."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, SLOT_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    with mmap(descriptor, HEADER_BYTES) as memory, words_of(memory) as words:
        words[LATEST] = NOTHING
        words[MARK] = NOBODY
        words[_RECORDS] = NOTHING
    return descriptor


def store_taken(words: "memoryview[int]", frame: int, taken: int) -> None:
    """Record atomically that `frame` was taken, as the `taken`th of all."""
    turn = words[TURN] + 1
    record = _RECORDS + 2 * (turn & 1)
    words[record], words[record + 1] = frame, taken
    fence()
    words[TURN] = turn


def load_progress(words: "memoryview[int]") -> tuple[int, int, int]:
    """Return a consistent (LATEST, number of the last taken frame, count of taken frames)."""
    while True:
        turn = words[TURN]
        fence()
        record = _RECORDS + 2 * (turn & 1)
        frame, taken = words[record], words[record + 1]
        latest = words[LATEST]
        fence()
        if words[TURN] == turn:
            return latest, frame, taken
