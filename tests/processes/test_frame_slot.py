import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import Path

import numpy as np
import pytest
from support.waiting import DEADLINE_S

from agent.messages.errors import MistakeError
from agent.processes.slots import slot_layout as layout
from agent.processes.slots.frame_slot import FrameSlot, SlotReader, SlotWriter

# Offers frames filled with one value each, `number % 251`, until it is killed or `count` were offered.
WRITER = """
import sys, time
from agent.messages.descriptors import SlotDescriptors
from agent.processes.slots.frame_slot import SlotWriter
memory, offered, taken, height, width, count, keep_all = map(int, sys.argv[1:])
writer = SlotWriter(SlotDescriptors(memory=memory, offered=offered, taken=taken))
number = -1
while count < 0 or number + 1 < count:
    while keep_all and not writer.wait_taken(1.0):
        pass
    writer.buffer(height, width).fill((number + 1) % 251)
    number = writer.offer(time.monotonic_ns(), time.time_ns())
"""

# Takes a frame, says so, and holds it until it is killed.
HOLDER = """
import sys, time
from agent.messages.descriptors import SlotDescriptors
from agent.processes.slots.frame_slot import SlotReader
memory, offered, taken = map(int, sys.argv[1:])
reader = SlotReader(SlotDescriptors(memory=memory, offered=offered, taken=taken))
frame = reader.take()
print(frame.number, flush=True)
time.sleep(600)
"""

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def slot() -> Iterator[FrameSlot]:
    made = FrameSlot.create("test")
    yield made
    made.close()


@pytest.fixture
def spawn(slot: FrameSlot) -> Iterator[Spawn]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: int) -> "subprocess.Popen[str]":
        ours = slot.descriptors()
        passed = (ours.memory, ours.offered, ours.taken)
        command = [sys.executable, "-c", code, *map(str, (*passed, *arguments))]
        process = subprocess.Popen(command, pass_fds=passed, stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        kill(process)


def header_of(slot: FrameSlot) -> "memoryview[int]":
    """Return the slot's header, to read and to break."""
    return layout.words_of(mmap(slot.descriptors().memory, layout.HEADER_BYTES))


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


def offer(writer: SlotWriter, value: int, height: int = 4, width: int = 6) -> int:
    writer.buffer(height, width).fill(value)
    return writer.offer(time.monotonic_ns(), time.time_ns())


def take_uniform(reader: SlotReader) -> tuple[int, int] | None:
    """Take one frame; return (number, dropped) after checking that it shows its own number's value and nothing else."""
    frame = reader.take()
    if frame is None:
        return None
    low, high = int(frame.image.min()), int(frame.image.max())
    if not reader.release(frame):
        return None
    assert low == high == frame.number % 251
    return frame.number, frame.dropped


def take_until(reader: SlotReader, enough: Callable[[int], bool]) -> list[tuple[int, int]]:
    """Take frames until `enough` of the last one's number."""
    frames: list[tuple[int, int]] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while not frames or not enough(frames[-1][0]):
        assert time.monotonic() < deadline_s
        if reader.wait(1.0) and (found := take_uniform(reader)):
            frames.append(found)
    return frames


def test_an_empty_slot_has_nothing_to_take(slot: FrameSlot) -> None:
    SlotWriter(slot.descriptors())
    reader = SlotReader(slot.descriptors())
    assert not reader.wait(0)
    assert reader.take() is None
    assert slot.counters().last_offered_ns == 0


def test_a_frame_arrives_as_it_was_offered(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    before_ns = time.monotonic_ns()
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    writer.buffer(4, 6)[:] = image
    assert writer.offer(captured_ns=123, captured_unix_ns=456) == 0
    assert reader.wait(0)
    frame = reader.take()
    assert frame is not None
    assert (frame.number, frame.captured_ns, frame.captured_unix_ns, frame.dropped) == (0, 123, 456, 0)
    assert np.array_equal(frame.image, image)
    assert reader.release(frame)
    assert not reader.wait(0)
    assert reader.take() is None
    assert slot.counters().last_offered_ns >= before_ns


def test_a_scaled_frame_tells_the_size_that_it_was_scaled_from(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    for of in ((1080, 1920), None, (8, 12)):
        writer.buffer(4, 6).fill(0)
        writer.offer(1, 1, of)
        frame = reader.take()
        assert frame is not None
        assert (frame.image.shape, frame.of) == ((4, 6, 3), of)
        assert reader.release(frame)


def test_the_newest_wins_and_every_frame_is_counted_once(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    for value in range(5):
        offer(writer, value)
    assert take_uniform(reader) == (4, 4)
    offer(writer, 5)
    assert take_uniform(reader) == (5, 0)
    for value in range(6, 9):
        offer(writer, value)
    counters = slot.counters()
    assert (counters.offered, counters.taken, counters.overwritten, counters.torn) == (9, 2, 6, 0)
    assert counters.offered == counters.taken + counters.overwritten + 1


def test_a_leased_frame_stays_whole_while_others_are_offered(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    frame = reader.take()
    assert frame is not None
    for value in range(1, 50):
        offer(writer, value)
        assert (frame.image == 0).all()
    assert reader.release(frame)
    assert take_uniform(reader) == (49, 48)


def test_one_frame_is_leased_at_a_time(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    frame = reader.take()
    assert frame is not None
    with pytest.raises(RuntimeError):
        reader.take()
    reader.release(frame)
    with pytest.raises(RuntimeError):
        reader.release(frame)


def test_a_torn_frame_is_refused_and_counted(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    frame = reader.take()
    assert frame is not None
    header_of(slot)[layout.MARK] = layout.NOBODY  # as if the mark had come too late
    for value in range(1, 4):
        offer(writer, value)
    assert not reader.release(frame)
    assert slot.counters().torn == 1
    assert take_uniform(reader) == (3, 2)


def test_a_half_written_buffer_is_never_read(slot: FrameSlot) -> None:
    reader = SlotReader(slot.descriptors())
    offer(SlotWriter(slot.descriptors()), 0)
    for value in range(1, 10):
        half = SlotWriter(slot.descriptors())
        half.buffer(4, 6).fill(255)  # dies here
        assert offer(SlotWriter(slot.descriptors()), value) == value
        assert take_uniform(reader) == (value, 0 if value > 1 else 1)


def test_frames_may_change_their_size(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    for number, (height, width) in enumerate([(4, 6), (480, 640), (1, 1), (1080, 1920), (4320, 7680), (2, 3)]):
        offer(writer, number, height, width)
        frame = reader.take()
        assert frame is not None
        assert frame.image.shape == (height, width, 3)
        assert (frame.image[-1, -1] == number).all()
        assert reader.release(frame)


def test_a_buffer_may_be_asked_for_again(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    writer.buffer(400, 600).fill(255)
    assert offer(writer, 0) == 0
    assert take_uniform(reader) == (0, 0)
    with pytest.raises(RuntimeError):
        writer.offer(0, 0)


@pytest.mark.parametrize(("height", "width"), [(4321, 7680), (0, 10), (10, -1)])
def test_a_frame_of_no_possible_size_is_a_mistake(slot: FrameSlot, height: int, width: int) -> None:
    with pytest.raises(MistakeError, match=f"{width}x{height}"):
        SlotWriter(slot.descriptors()).buffer(height, width)


IMPOSSIBLE_WORDS = [
    (layout.WIDTH, 0),
    (layout.HEIGHT, 0),
    (layout.WIDTH, -6),
    (layout.HEIGHT, -(2**63)),
    (layout.WIDTH, 2**62),
    (layout.HEIGHT, layout.CAPACITY_BYTES // 18 + 1),
    (layout.FRAME, 77),
    (layout.SEQUENCE, 1),
    (layout.OF_WIDTH, 5),
    (layout.OF_HEIGHT, -1),
]


@pytest.mark.parametrize(("word", "value"), IMPOSSIBLE_WORDS)
def test_a_frame_that_cannot_be_is_discarded_and_counted(slot: FrameSlot, word: int, value: int) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    header = header_of(slot)
    header[layout.group(header[layout.LATEST] & 3) + word] = value
    assert reader.wait(0)
    assert reader.take() is None
    assert not reader.wait(0)
    assert writer.wait_taken(0), "a source that waits for its reader goes on"
    counters = slot.counters()
    assert (counters.offered, counters.taken, counters.torn) == (1, 1, 1)
    offer(writer, 1)
    assert take_uniform(reader) == (1, 0)


def test_a_frame_in_a_buffer_that_is_not_there_is_discarded_and_counted(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    header_of(slot)[layout.LATEST] |= 3
    assert reader.take() is None
    assert slot.counters().torn == 1
    offer(writer, 1)
    assert take_uniform(reader) == (1, 0)


def test_a_frame_that_nobody_was_woken_for_is_found(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    os.eventfd_read(reader.fileno())
    assert reader.wait(0)
    assert take_uniform(reader) == (0, 0)


def test_a_new_reader_heals_a_record_of_a_frame_that_never_was(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    layout.store_taken(header_of(slot), 1 << 40, 1)
    offer(writer, 1)
    assert reader.take() is None
    reader = SlotReader(slot.descriptors())
    offer(writer, 2)
    assert take_uniform(reader) == (2, 0)


def test_no_torn_frame_is_accepted_and_the_counts_agree_under_stress(slot: FrameSlot, spawn: Spawn) -> None:
    reader = SlotReader(slot.descriptors())
    writer = spawn(WRITER, 120, 160, 4000, 0)
    frames = take_until(reader, lambda number: number == 3999)
    assert writer.wait(DEADLINE_S) == 0
    counters = slot.counters()
    assert counters.offered == 4000
    assert counters.offered == counters.taken + counters.overwritten
    assert counters.taken == len(frames) + counters.torn
    assert [number for number, _ in frames] == sorted({number for number, _ in frames})


def test_counters_always_add_up_while_both_sides_run(slot: FrameSlot, spawn: Spawn) -> None:
    reader = SlotReader(slot.descriptors())
    spawn(WRITER, 2, 2, -1, 0)
    over = threading.Event()
    overwritten: list[int] = []

    def watch() -> None:
        while not over.is_set():
            counters = slot.counters()
            waiting = counters.offered - counters.taken - counters.overwritten
            overwritten.append(counters.overwritten if waiting in (0, 1) else -1)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        take_until(reader, lambda number: number >= 2000)
    finally:
        over.set()
        watcher.join()
    assert overwritten == sorted(overwritten)
    assert overwritten[0] >= 0


def test_a_writer_killed_at_any_moment_is_replaced_and_numbers_go_on(slot: FrameSlot, spawn: Spawn) -> None:
    reader = SlotReader(slot.descriptors())
    last = -1
    for _ in range(5):
        writer = spawn(WRITER, 480, 640, -1, 0)
        # WRITER fills with its own idea of the number: right for its first frame only if it goes on from LATEST.
        last = _take_some(reader, beyond=last + 30)
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()
        last = max(last, slot.counters().offered - 1)
    counters = slot.counters()
    waiting = counters.offered - counters.taken - counters.overwritten
    assert counters.offered > 150
    assert waiting in (0, 1)
    assert counters.torn == 0


def _take_some(reader: SlotReader, beyond: int) -> int:
    deadline_s = time.monotonic() + DEADLINE_S
    last = -1
    while last <= beyond:
        assert time.monotonic() < deadline_s
        if not reader.wait(1.0) or (frame := reader.take()) is None:
            continue
        assert frame.number > last
        assert frame.image.min() == frame.image.max()
        assert reader.release(frame)
        last = frame.number
    return last


def test_a_killed_readers_mark_is_put_aside(slot: FrameSlot, spawn: Spawn) -> None:
    writer = SlotWriter(slot.descriptors())
    for value in range(3):
        offer(writer, value)
        holder = spawn(HOLDER)
        assert holder.stdout is not None
        assert holder.stdout.readline() == f"{value}\n"
        kill(holder)
    assert slot.counters().taken == 3
    for value in range(3, 10):
        offer(writer, value)
    reader = SlotReader(slot.descriptors())
    assert header_of(slot)[layout.MARK] == layout.NOBODY
    assert reader.wait(0)
    assert take_uniform(reader) == (9, 6)


def test_a_reader_that_comes_later_learns_of_the_frame_that_its_predecessor_was_told_of(slot: FrameSlot) -> None:
    writer, dead = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    offer(writer, 0)
    os.eventfd_read(dead.fileno())  # dies here
    reader = SlotReader(slot.descriptors())
    assert reader.wait(0)
    assert take_uniform(reader) == (0, 0)


def test_a_writer_that_waits_for_the_reader_loses_nothing(slot: FrameSlot, spawn: Spawn) -> None:
    reader = SlotReader(slot.descriptors())
    writer = spawn(WRITER, 12, 16, 500, 1)
    frames = take_until(reader, lambda number: number == 499)
    assert frames == [(number, 0) for number in range(500)]
    assert writer.wait(DEADLINE_S) == 0
    assert slot.counters().overwritten == 0


def test_waiting_for_the_reader_times_out(slot: FrameSlot) -> None:
    writer, reader = SlotWriter(slot.descriptors()), SlotReader(slot.descriptors())
    assert writer.wait_taken(0)
    offer(writer, 0)
    assert not writer.wait_taken(0.01)
    assert take_uniform(reader) == (0, 0)
    assert writer.wait_taken(0)


def test_untouched_pages_cost_nothing_and_nothing_stays_in_dev_shm(slot: FrameSlot) -> None:
    SlotWriter(slot.descriptors()).buffer(480, 640).fill(1)
    memory = os.fstat(slot.descriptors().memory)
    assert memory.st_blocks * 512 <= layout.HEADER_BYTES + 480 * 640 * 3 + 2 * 4096
    assert memory.st_nlink == 0  # no name leads to it: it goes with its last holder
    assert not [path for path in Path("/dev/shm").iterdir() if path.name.startswith("changeover")]


def test_nobody_can_cut_the_memory_short(slot: FrameSlot) -> None:
    with pytest.raises(PermissionError):
        os.ftruncate(slot.descriptors().memory, 0)


def test_control_stays_without_numpy() -> None:
    code = (
        "import sys; from agent.processes.slots.frame_slot import FrameSlot;"
        "FrameSlot.create('x').counters(); sys.exit('numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
