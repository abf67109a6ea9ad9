"""Frame slot of one stream in shared memory: the camera process writes, the worker reads, control counts.

Neither side waits for a lock of the other, so either may die at any instruction and be replaced. Of the three buffers
one holds the newest frame, one may be leased by the reader, and one is always free to write into.

How a leased frame stays whole: the reader loads LATEST, stores its mark on that buffer, and loads LATEST again; the
lease holds only where LATEST is unchanged. The writer stores LATEST, then loads the mark, and writes into a buffer that
is neither. This is Dekker's algorithm: each side stores one word and then loads the other's, and a store that stays in
a store buffer would let both see the old value, so that the writer reuses the buffer that the reader leases. A fence
between store and load on each side prevents this: either the writer sees the mark, or the reader sees the new LATEST
and tries again. The remaining races (a mark that a later reader cleared, a machine whose fences are weaker than
assumed) are detected by a sequence number of each buffer, as in a seqlock: odd while the buffer is written, and greater
afterwards. The reader compares it before it returns the image and again at release, with fences that keep the loads of
pixels in between. A frame that fails is torn: discarded and counted. So is a frame of an impossible size, because the
reader checks every word of the writer.

A writer that dies while it writes leaves an odd sequence on a buffer that LATEST does not name, so nobody reads it. A
reader that dies leaves its mark, which costs one buffer until the next reader attaches.

Control uses only `FrameSlot`, which does not import numpy.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from mmap import PROT_READ, mmap
from select import POLLIN, poll
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.messages.descriptors import SlotDescriptors
from agent.messages.errors import MistakeError
from agent.processes.slots import slot_layout as layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SlotCounters:
    """Counters of one slot since its creation: offered = taken + overwritten + (1 while a frame waits)."""

    offered: int
    overwritten: int
    taken: int
    torn: int
    """Taken frames that were discarded, because they were overwritten while read or had an impossible size."""
    last_offered_ns: int
    """CLOCK_MONOTONIC; 0 before the first frame."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A leased frame, valid until its release."""

    image: "NDArray[np.uint8]"
    """(height, width, 3) uint8 BGR, in shared memory."""
    number: int
    """Number of frames offered in this slot before this one."""
    captured_ns: int
    """Time of capture, CLOCK_MONOTONIC."""
    captured_unix_ns: int
    """Time of capture by the wall clock, Unix time."""
    dropped: int
    """Frames overwritten since the last taken one."""
    buffer: int = field(repr=False)
    sequence: int = field(repr=False)
    offered_ns: int = 0
    """Time at which the camera process offered it, CLOCK_MONOTONIC."""
    of: tuple[int, int] | None = None
    """Height and width of the camera's picture, in whose pixels boxes are published; None: the image's own."""


class FrameSlot:
    """Control's side of a slot: owns the memory and both eventfds from `create` to `close`; for one thread."""

    def __init__(self, descriptors: SlotDescriptors) -> None:
        self._descriptors: Final = descriptors
        self._memory: Final = mmap(descriptors.memory, layout.HEADER_BYTES, prot=PROT_READ)
        self._words: Final = layout.words_of(self._memory)

    @classmethod
    def create(cls, name: str) -> "FrameSlot":
        """Create an empty slot; `name` shows in /proc/PID/maps. Raises OSError without free descriptors."""
        with ExitStack() as undo:
            memory = layout.create_memory(f"changeover-{name}")
            undo.callback(os.close, memory)
            offered = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, offered)
            taken = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            undo.callback(os.close, taken)
            slot = cls(SlotDescriptors(memory=memory, offered=offered, taken=taken))
            undo.pop_all()
        return slot

    def descriptors(self) -> SlotDescriptors:
        """Return the descriptors to pass to both children (`pass_fds`); this object closes them."""
        return self._descriptors

    def counters(self) -> SlotCounters:
        """Return a consistent copy of the counters."""
        latest, frame, taken = layout.load_progress(self._words)
        offered = (latest >> 2) + 1
        waiting = int(latest >> 2 > frame)
        return SlotCounters(
            offered=offered,
            overwritten=offered - taken - waiting,
            taken=taken,
            torn=self._words[layout.TORN],
            last_offered_ns=self._words[layout.LAST_OFFERED_NS],
        )

    def close(self) -> None:
        """Close the descriptors; the kernel frees the memory once both children are gone too."""
        self._words.release()
        self._memory.close()
        for descriptor in (self._descriptors.memory, self._descriptors.offered, self._descriptors.taken):
            os.close(descriptor)


class SlotWriter:
    """Camera process's end of a slot, which may replace a dead writer; for one thread."""

    def __init__(self, descriptors: SlotDescriptors) -> None:
        self._memory: Final = mmap(descriptors.memory, layout.SLOT_BYTES)
        self._words: Final = layout.words_of(self._memory)
        self._offered: Final = descriptors.offered
        self._taken: Final = descriptors.taken
        self._writing: int | None = None
        # Because a writer that died between its last two steps has offered a frame without signalling it.
        _wake_for_waiting(self._words, self._offered)

    def buffer(self, height: int, width: int) -> "NDArray[np.uint8]":
        """Return a free buffer as a (height, width, 3) uint8 array, to fill and then `offer`.

        A second call without `offer` reuses the buffer. Raises MistakeError for a frame larger than the capacity.
        """
        if not layout.is_possible(0, height, width):
            raise MistakeError(
                f"a frame of {width}x{height} is not supported: a frame has at least one pixel and at most "
                f"{layout.CAPACITY_BYTES} bytes (7680x4320 in BGR); set the camera to a smaller size"
            )
        self._writing = self._begin()
        at = layout.group(self._writing)
        self._words[at + layout.WIDTH], self._words[at + layout.HEIGHT] = width, height
        return _image(self._memory, self._writing, height, width)

    def offer(self, captured_ns: int, captured_unix_ns: int, of: tuple[int, int] | None = None) -> int:
        """Publish the filled buffer as the newest frame, which replaces an untaken one; return its number.

        `of`: height and width of the camera's picture that the frame was scaled down from.
        """
        if self._writing is None:
            raise RuntimeError("offer() without a buffer()")
        words, at = self._words, layout.group(self._writing)
        number = (words[layout.LATEST] >> 2) + 1
        words[at + layout.FRAME] = number
        words[at + layout.CAPTURED_NS] = captured_ns
        words[at + layout.CAPTURED_UNIX_NS] = captured_unix_ns
        words[at + layout.OF_HEIGHT], words[at + layout.OF_WIDTH] = of or (0, 0)
        offered_ns = words[at + layout.OFFERED_NS] = time.monotonic_ns()
        layout.fence()
        words[at + layout.SEQUENCE] += 1
        words[layout.LAST_OFFERED_NS] = offered_ns
        layout.fence()
        words[layout.LATEST] = number << 2 | self._writing
        self._writing = None
        os.eventfd_write(self._offered, 1)
        return number

    def wait_taken(self, timeout_s: float) -> bool:
        """Wait until the worker has taken the newest frame; False where it has not after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            _drain(self._taken)
            latest, frame, _ = layout.load_progress(self._words)
            if latest >> 2 <= frame:
                return True
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            _poll(self._taken, left_s)

    def _begin(self) -> int:
        words = self._words
        layout.fence()
        kept = (words[layout.LATEST] & 3, words[layout.MARK])
        free = (buffer for buffer in range(layout.BUFFERS) if buffer not in kept)
        # The oldest, because a slow reader most likely still reads the one that was newest until now.
        buffer = min(free, key=lambda buffer: words[layout.group(buffer) + layout.FRAME])
        at = layout.group(buffer) + layout.SEQUENCE
        words[at] = (words[at] + 1) | 1
        layout.fence()
        return buffer


class SlotReader:
    """Worker's end of a slot, with one leased frame at a time; not for concurrent calls."""

    def __init__(self, descriptors: SlotDescriptors) -> None:
        self._memory: Final = mmap(descriptors.memory, layout.SLOT_BYTES)
        self._words: Final = layout.words_of(self._memory)
        self._offered: Final = descriptors.offered
        self._taken: Final = descriptors.taken
        self._leased: Frame | None = None
        self.attach()

    def attach(self) -> None:
        """End the lease of a reader that died, and signal a frame that it never took."""
        self._leased = None
        self._words[layout.MARK] = layout.NOBODY
        latest, frame, taken = layout.load_progress(self._words)
        if frame > latest >> 2:  # repaired, because with a record of an impossible frame no later one would be newer
            layout.store_taken(self._words, latest >> 2, taken)
        _wake_for_waiting(self._words, self._offered)

    def fileno(self) -> int:
        """Return a descriptor that is readable after an offer, until `take`."""
        return self._offered

    def is_waiting(self) -> bool:
        """Return True where a frame waits, signalled or not."""
        return _is_waiting(self._words)

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for a frame, for ever with None; False after `timeout_s`. After True, `take` may still return None."""
        # Checks both, because a writer that died between its last two steps has offered without signalling.
        return _poll(self._offered, timeout_s) or _is_waiting(self._words)

    def take(self) -> Frame | None:
        """Lease the newest untaken frame; None without one. The last lease must have been released.

        A frame with impossible metadata is discarded, and counted as torn.
        """
        if self._leased is not None:
            raise RuntimeError("take() before the frame taken last was released")
        # Before LATEST is loaded, because an offer in between must wake the reader once more rather than never.
        _drain(self._offered)
        words = self._words
        _, last, taken = layout.load_progress(words)
        while (latest := words[layout.LATEST]) >> 2 > last:
            words[layout.MARK] = latest & 3
            layout.fence()
            if words[layout.LATEST] != latest:
                continue
            record = self._record_of(latest)
            if record is None and words[layout.LATEST] != latest:
                break  # overwritten meanwhile, and the next offer wakes the reader
            layout.store_taken(words, latest >> 2, taken + 1)
            os.eventfd_write(self._taken, 1)
            if record is None:
                words[layout.TORN] += 1
                break
            self._leased = self._lease(latest, last, record)
            return self._leased
        words[layout.MARK] = layout.NOBODY
        return None

    def release(self, frame: Frame) -> bool:
        """End the lease; False where the frame was overwritten meanwhile, so that its results must be discarded."""
        if frame is not self._leased:
            raise RuntimeError("release() of a frame that is not leased")
        layout.fence()
        whole = self._words[layout.group(frame.buffer) + layout.SEQUENCE] == frame.sequence
        self._words[layout.MARK] = layout.NOBODY
        self._leased = None
        if not whole:
            self._words[layout.TORN] += 1
        return whole

    def _record_of(self, latest: int) -> "_FrameRecord | None":
        """Return the writer's record of the newest frame; None where it is incomplete or impossible."""
        number, at = latest >> 2, layout.group(latest & 3)
        sequence = self._words[at + layout.SEQUENCE]
        layout.fence()
        width, height, frame, captured_ns, captured_unix_ns, offered_ns, of_width, of_height = self._words[
            at + layout.WIDTH : at + layout.GROUP_WORDS
        ]
        layout.fence()
        if sequence & 1 or frame != number or self._words[at + layout.SEQUENCE] != sequence:
            return None
        if not layout.is_possible(latest & 3, height, width):
            return None
        of = (of_height, of_width) if of_height or of_width else None
        if of is not None and not layout.is_possible(latest & 3, *of):
            return None
        return _FrameRecord(sequence, width, height, captured_ns, captured_unix_ns, offered_ns, of)

    def _lease(self, latest: int, last: int, record: "_FrameRecord") -> Frame:
        number, buffer = latest >> 2, latest & 3
        return Frame(
            image=_image(self._memory, buffer, record.height, record.width),
            number=number,
            captured_ns=record.captured_ns,
            captured_unix_ns=record.captured_unix_ns,
            dropped=number - last - 1,
            buffer=buffer,
            sequence=record.sequence,
            offered_ns=record.offered_ns,
            of=record.of,
        )


class _FrameRecord(NamedTuple):
    """Writer's record of one complete frame of a valid size."""

    sequence: int
    width: int
    height: int
    captured_ns: int
    captured_unix_ns: int
    offered_ns: int
    of: tuple[int, int] | None


def _image(memory: mmap, buffer: int, height: int, width: int) -> "NDArray[np.uint8]":
    import numpy as np  # noqa: PLC0415 - control imports this module, and must not pay for numpy

    image: NDArray[np.uint8] = np.ndarray((height, width, 3), np.uint8, memory, layout.pixels(buffer))
    return image


def _wake_for_waiting(words: "memoryview[int]", offered: int) -> None:
    if _is_waiting(words):
        os.eventfd_write(offered, 1)


def _is_waiting(words: "memoryview[int]") -> bool:
    latest, frame, _ = layout.load_progress(words)
    return latest >> 2 > frame


def _poll(descriptor: int, timeout_s: float | None) -> bool:
    waiting = poll()
    waiting.register(descriptor, POLLIN)
    return bool(waiting.poll(None if timeout_s is None else timeout_s * 1000))


def _drain(descriptor: int) -> None:
    try:
        os.eventfd_read(descriptor)
    except BlockingIOError:
        return
