"""The worker's small parts: counts of a stream, bytes of a process, times as text."""

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from agent.inference import backends
from agent.inference.backends import ultralytics
from agent.inference.memory import process_memory
from agent.inference.process import versions
from agent.inference.serving.frame_loss import FrameLossCounter
from agent.messages.texts.utc import utc_text_of_ns
from agent.models import child_environment

SECOND_NS = 1_000_000_000


class DummySlot:
    offered = 0
    overwritten = 0

    def read(self) -> tuple[int, int]:
        return self.offered, self.overwritten


def run(tally: FrameLossCounter, slot: DummySlot, seconds: range, overwritten_a_second: int) -> None:
    """Let 30 frames a second go by."""
    for second in seconds:
        tally.tick(second * SECOND_NS)
        slot.offered += 30
        slot.overwritten += overwritten_a_second


@pytest.mark.parametrize(("steady", "then", "lost"), [(0, 0, 0), (0, 7, 7), (10, 10, 0), (10, 15, 5), (10, 3, 0)])
def test_only_what_exceeds_the_steady_rate_is_lost(steady: int, then: int, lost: int) -> None:
    slot = DummySlot()
    tally = FrameLossCounter(slot.read)
    run(tally, slot, range(8), steady)
    mark = tally.mark(8 * SECOND_NS)
    run(tally, slot, range(8, 9), then)
    assert tally.lost_since(mark) == lost


def test_an_old_rate_is_forgotten_and_discards_count() -> None:
    slot = DummySlot()
    tally = FrameLossCounter(slot.read)
    run(tally, slot, range(4), 20)
    run(tally, slot, range(4, 20), 0)
    mark = tally.mark(20 * SECOND_NS)
    run(tally, slot, range(20, 21), 2)
    tally.discard()
    assert (mark.loss, tally.lost_since(mark)) == (0, 3)


def test_without_frames_nothing_is_lost() -> None:
    tally = FrameLossCounter(DummySlot().read)
    assert tally.lost_since(tally.mark(SECOND_NS)) == 0


def test_bytes_are_seen_to_come_and_to_go() -> None:
    before_bytes = process_memory.process_bytes()
    block = ctypes.create_string_buffer(64 << 20)
    ctypes.memset(block, 1, len(block))
    held_bytes = process_memory.process_bytes()
    assert held_bytes - before_bytes > 60 << 20
    del block
    assert process_memory.wait_until_at_most(held_bytes - (60 << 20), 10) <= held_bytes - (60 << 20)


_HEAP = """
import ctypes, sys, threading
from agent.inference.memory import process_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = []

def come(count, size_bytes):
    blocks.extend(libc.malloc(size_bytes) for _ in range(count))
    for block in blocks:
        ctypes.memset(block, 1, size_bytes)

def go():
    while blocks:
        libc.free(blocks.pop())

def on_a_thread(*steps):
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    thread.join()

"""
_LOADED_AND_CLOSED = f"""{_HEAP}
def close():
    with process_memory.giving_back():
        go()
        process_memory.trim()

before_bytes = process_memory.process_bytes()
come(1, 30 << 20)
go()
for _ in range(3):
    on_a_thread(lambda: come(16, 2 << 20))
    close() if sys.argv[1] == "here" else on_a_thread(close)
process_memory.trim()
print(process_memory.process_bytes() - before_bytes >> 20)
"""
_CAME_AND_WENT = f"""{_HEAP}
before_bytes = process_memory.process_bytes()
on_a_thread(lambda: come(16, 2 << 20), go, process_memory.trim)
print(process_memory.process_bytes() - before_bytes >> 20)
"""
_WHOSE_HEAP = f"""{_HEAP}
have_all = threading.Barrier(int(sys.argv[1]) + 1)
for _ in range(int(sys.argv[1])):
    threading.Thread(target=lambda: (blocks.append(libc.malloc(2 << 20)), have_all.wait()), daemon=True).start()
have_all.wait()
print(len({{block >> 26 for block in blocks}}))
"""
"""Heaps of threads have 64 MiB each, and begin at a multiple of that."""


def in_a_worker(program: str, *arguments: str) -> int:
    """Return the number that a program prints with the worker's environment."""
    environment = os.environ | child_environment.FOR_WORKER
    command = [sys.executable, "-c", program, *arguments]
    return int(subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60).stdout)


@pytest.mark.parametrize("where", ["here", "on a thread"])
def test_a_workers_allocator_keeps_nothing_of_a_closed_model(where: str) -> None:
    assert in_a_worker(_LOADED_AND_CLOSED, where) < 8, "the top of a thread's heap keeps all 32"


def test_a_thread_that_trims_gives_back_the_top_of_its_own_heap() -> None:
    assert in_a_worker(_CAME_AND_WENT) < 8


def test_threads_of_a_worker_do_not_wait_for_each_others_heap() -> None:
    assert in_a_worker(_WHOSE_HEAP, "12") == 12


def test_waiting_for_bytes_that_never_come_ends() -> None:
    assert process_memory.wait_until_at_most(0, 0.05) > 0


def test_what_torch_holds_of_gpus_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 2, memory_reserved=lambda index: 7 + index)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert backends.held_device_bytes() == ultralytics.held_device_bytes() == 15
    cuda.is_initialized = lambda: False
    assert backends.held_device_bytes() == 0
    monkeypatch.delitem(sys.modules, "torch")
    assert backends.held_device_bytes() == 0


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_247_200_000_000_000, "2026-01-01T06:00:00.000Z"),
        (1_767_247_200_999_999_999, "2026-01-01T06:00:00.999Z"),
        (1_767_247_200_005_000_000, "2026-01-01T06:00:00.005Z"),
    ],
)
def test_times_are_utc_with_milliseconds(unix_ns: int, text: str) -> None:
    assert utc_text_of_ns(unix_ns) == text


def test_versions_are_found_without_importing() -> None:
    assert set(versions()) <= {"openvino", "onnxruntime", "ultralytics", "torch"}
