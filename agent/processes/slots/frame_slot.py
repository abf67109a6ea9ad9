"""The frame slot of a stream: one camera process offers frames, one worker takes the newest, control counts.

Neither side ever waits for a lock of the other's, so either may die at any instruction and be replaced. Of the three
buffers one holds the newest frame, one may be leased by the reader, and one is always free to write into.

How a leased frame stays whole. The reader loads LATEST, stores its mark on that buffer, and loads LATEST again; only if
it is unchanged does the lease stand. The writer stores LATEST, then loads the mark, and writes into a buffer that is
neither. This is Dekker's race: each side stores one word and then loads the other's, and a store that lingers in a
store buffer would let both see the old value, the reader leasing a buffer that the writer takes for free. Each side has
a fence between its store and its load, which closes the race: either the writer sees the mark, or the reader sees
that LATEST moved on, and tries again. What no fence closes (a mark that a later reader put aside, a machine on which
the fence is weaker than we think) is caught by each buffer's sequence, as in a seqlock: odd while written, greater
after. It is compared before the image is handed out and again at release, with fences that keep the pixels'
loads and stores inside. A frame that fails there is torn: discarded, and counted. So is a frame of a size that cannot
be: the reader believes no word of the writer's before it has checked it.

A writer that dies in mid-write leaves an odd sequence on a buffer that LATEST does not name, so nobody reads it. A
reader that dies leaves its mark, which costs one buffer until the next reader attaches.

Control uses `FrameSlot` alone, and stays without numpy, which only the two ends import.
"""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from mmap import PROT_READ, mmap
from select import POLLIN, poll
from typing import TYPE_CHECKING, Final, NamedTuple

from agent.messages.children import SlotDescriptors
from agent.messages.errors import MistakeError
from agent.processes.slots import slot_layout as layout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SlotCounters:
    """What went through a slot in this boot: offered = taken + overwritten + (1 while a frame waits).

    `torn` counts those of the taken that had to be discarded. `last_offered_ns` is CLOCK_MONOTONIC, 0 before the first.
    """

    offered: int
    overwritten: int
    taken: int
    torn: int
    last_offered_ns: int


@dataclass(frozen=True, eq=False)
class Frame:
    """A leased frame. `image`: (height, width, 3) uint8 BGR in shared memory, valid until the release.

    `number` counts what was offered in this boot, from 0. `captured_ns` and `offered_ns` are CLOCK_MONOTONIC,
    `captured_unix_ns` the wall clock. `dropped`: frames overwritten since the one taken before.
    """

    image: "NDArray[np.uint8]"
    number: int
    captured_ns: int
    captured_unix_ns: int
    dropped: int
    buffer: int = field(repr=False)
    sequence: int = field(repr=False)
    offered_ns: int = 0


class FrameSlot:
    """Control's side: owns the memory and the two eventfds, from `create` to `close`; for one thread."""

    def __init__(self, descriptors: SlotDescriptors) -> None:
        self._descriptors: Final = descriptors
        self._memory: Final = mmap(descriptors.memory, layout.HEADER_BYTES, prot=PROT_READ)
        self._words: Final = layout.words_of(self._memory)

    @classmethod
    def create(cls, name: str) -> "FrameSlot":
        """Make an empty slot; `name` shows in /proc/PID/maps. Raises OSError when descriptors have run out."""
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
        """Return the descriptors to hand to both ends, with `pass_fds`; they stay this object's to close."""
        return self._descriptors

    def counters(self) -> SlotCounters:
        """Return the counters as they were at one moment."""
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
        """Give the descriptors back; the memory is freed when both ends are gone as well."""
        self._words.release()
        self._memory.close()
        for descriptor in (self._descriptors.memory, self._descriptors.offered, self._descriptors.taken):
            os.close(descriptor)


class SlotWriter:
    """The camera process's end; for one thread. Goes on where a dead writer stopped."""

    def __init__(self, descriptors: SlotDescriptors) -> None:
        self._memory: Final = mmap(descriptors.memory, layout.SLOT_BYTES)
        self._words: Final = layout.words_of(self._memory)
        self._offered: Final = descriptors.offered
        self._taken: Final = descriptors.taken
        self._writing: int | None = None
        # A writer that died between its last two steps offered a frame without saying so.
        _wake_for_waiting(self._words, self._offered)

    def buffer(self, height: int, width: int) -> "NDArray[np.uint8]":
        """Return a free buffer as (height, width, 3) uint8, to be filled and then offered.

        Asking again without an offer puts the one before back. Raises MistakeError for a frame beyond the capacity.
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

    def offer(self, captured_ns: int, captured_unix_ns: int) -> int:
        """Make the buffer's frame the newest, over one that still waits; return its number."""
        if self._writing is None:
            raise RuntimeError("offer() without a buffer()")
        words, at = self._words, layout.group(self._writing)
        number = (words[layout.LATEST] >> 2) + 1
        words[at + layout.FRAME] = number
        words[at + layout.CAPTURED_NS] = captured_ns
        words[at + layout.CAPTURED_UNIX_NS] = captured_unix_ns
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
        """Wait until no frame waits in the slot; False when `timeout_s` passes before."""
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
        # The oldest: a slow reader is likeliest to look at the one that was newest until just now.
        buffer = min(free, key=lambda buffer: words[layout.group(buffer) + layout.FRAME])
        at = layout.group(buffer) + layout.SEQUENCE
        words[at] = (words[at] + 1) | 1
        layout.fence()
        return buffer


class SlotReader:
    """The worker's end: one leased frame at a time; `take` and `release` never from two threads at once."""

    def __init__(self, descriptors: SlotDescriptors) -> None:
        self._memory: Final = mmap(descriptors.memory, layout.SLOT_BYTES)
        self._words: Final = layout.words_of(self._memory)
        self._offered: Final = descriptors.offered
        self._taken: Final = descriptors.taken
        self._leased: Frame | None = None
        self.attach()

    def attach(self) -> None:
        """Put aside the mark of a reader that is dead; wake up for a frame that it was told of and never took."""
        self._leased = None
        self._words[layout.MARK] = layout.NOBODY
        latest, frame, taken = layout.load_progress(self._words)
        if frame > latest >> 2:  # a record of a frame that never was: no frame would be newer for ever
            layout.store_taken(self._words, latest >> 2, taken)
        _wake_for_waiting(self._words, self._offered)

    def fileno(self) -> int:
        """Return the descriptor that is readable once a frame was offered; `take` makes it quiet again."""
        return self._offered

    def wait(self, timeout_s: float | None) -> bool:
        """Wait for an offer; False when `timeout_s` passes (None: for ever). After True, `take` may still find none."""
        # A writer that died between its last two steps has offered without a word.
        return _poll(self._offered, timeout_s) or _is_waiting(self._words)

    def take(self) -> Frame | None:
        """Lease the newest frame if it was not taken before; the one leased before must have been released.

        A frame that cannot be is discarded, and counted as torn.
        """
        if self._leased is not None:
            raise RuntimeError("take() before the frame taken last was released")
        # Before LATEST is loaded: an offer that comes in between wakes us once more, rather than never.
        _drain(self._offered)
        words = self._words
        _, last, taken = layout.load_progress(words)
        while (latest := words[layout.LATEST]) >> 2 > last:
            words[layout.MARK] = latest & 3
            layout.fence()
            if words[layout.LATEST] != latest:
                continue
            facts = self._facts(latest)
            if facts is None and words[layout.LATEST] != latest:
                break  # it was overwritten meanwhile: the next offer wakes us
            layout.store_taken(words, latest >> 2, taken + 1)
            os.eventfd_write(self._taken, 1)
            if facts is None:
                words[layout.TORN] += 1
                break
            self._leased = self._lease(latest, last, facts)
            return self._leased
        words[layout.MARK] = layout.NOBODY
        return None

    def release(self, frame: Frame) -> bool:
        """End the lease. False: the frame was torn meanwhile, it is counted so, and nothing made of it may be used."""
        if frame is not self._leased:
            raise RuntimeError("release() of a frame that is not leased")
        layout.fence()
        whole = self._words[layout.group(frame.buffer) + layout.SEQUENCE] == frame.sequence
        self._words[layout.MARK] = layout.NOBODY
        self._leased = None
        if not whole:
            self._words[layout.TORN] += 1
        return whole

    def _facts(self, latest: int) -> "_Facts | None":
        """Return what the writer says of the newest frame; None where that is not whole, or cannot be."""
        number, at = latest >> 2, layout.group(latest & 3)
        sequence = self._words[at + layout.SEQUENCE]
        layout.fence()
        width, height, frame, captured_ns, captured_unix_ns, offered_ns = self._words[
            at + layout.WIDTH : at + layout.GROUP_WORDS
        ]
        layout.fence()
        if sequence & 1 or frame != number or self._words[at + layout.SEQUENCE] != sequence:
            return None
        if not layout.is_possible(latest & 3, height, width):
            return None
        return _Facts(sequence, width, height, captured_ns, captured_unix_ns, offered_ns)

    def _lease(self, latest: int, last: int, facts: "_Facts") -> Frame:
        number, buffer = latest >> 2, latest & 3
        return Frame(
            image=_image(self._memory, buffer, facts.height, facts.width),
            number=number,
            captured_ns=facts.captured_ns,
            captured_unix_ns=facts.captured_unix_ns,
            dropped=number - last - 1,
            buffer=buffer,
            sequence=facts.sequence,
            offered_ns=facts.offered_ns,
        )


class _Facts(NamedTuple):
    """The writer's record of one complete frame of a valid size."""

    sequence: int
    width: int
    height: int
    captured_ns: int
    captured_unix_ns: int
    offered_ns: int


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
