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


_A_MODEL_COMES_AND_GOES = """
import ctypes, threading
from agent.inference.memory import process_memory

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def come_and_go(count, size_bytes):
    blocks = [libc.malloc(size_bytes) for _ in range(count)]
    for block in blocks:
        ctypes.memset(block, 1, size_bytes)
    for block in blocks:
        libc.free(block)

before_bytes = process_memory.process_bytes()
come_and_go(1, 30 << 20)
thread = threading.Thread(target=come_and_go, args=(16, 2 << 20))
thread.start()
thread.join()
process_memory.trim()
print(process_memory.process_bytes() - before_bytes >> 20)
"""


def test_a_workers_allocator_keeps_nothing_large_that_was_freed() -> None:
    command = [sys.executable, "-c", _A_MODEL_COMES_AND_GOES]
    kept_mib = int(
        subprocess.run(
            command, env=os.environ | child_environment.FOR_MODELS, capture_output=True, check=True, timeout=60
        ).stdout
    )
    assert kept_mib < 8, "a second arena keeps all 32"


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
