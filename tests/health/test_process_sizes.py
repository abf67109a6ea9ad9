"""Memory of processes: as the kernel says, and with one look at all pages of one process a reading."""

import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from agent.health.sensors.available_memory import proportional_bytes, unshared_bytes
from agent.health.sensors.process_sizes import ProcessSizes

MIB = 2**20


@dataclass
class Kernel:
    """Resident and proportional bytes of processes, which counts who was measured."""

    resident: dict[int, int]
    shares: dict[int, int | None]
    measured: list[int] = field(default_factory=list)

    def measure(self, pid: int) -> int | None:
        self.measured.append(pid)
        return self.shares.get(pid)

    def sizes(self) -> ProcessSizes:
        return ProcessSizes(self.measure, lambda pid: self.resident.get(pid, 0))

    def taken(self) -> list[int]:
        """Return who was measured since the last call."""
        taken, self.measured = self.measured, []
        return taken


def test_each_reading_measures_one_process_in_turn() -> None:
    kernel = Kernel({1: 100, 2: 200, 3: 300}, {1: 60, 2: 150, 3: 250})
    sizes = kernel.sizes()
    assert sizes.read([1, 2, 3]) == {1: 60, 2: 150, 3: 250}
    assert kernel.taken() == [1, 2, 3], "nothing is known of a new process"
    turns = [(sizes.read([1, 2, 3]), kernel.taken())[1] for _ in range(6)]
    assert turns == [[1], [2], [3], [1], [2], [3]]


def test_what_a_process_takes_alone_shows_at_once_and_what_it_shares_in_its_turn() -> None:
    kernel = Kernel({1: 100, 2: 200}, {1: 60, 2: 150})
    sizes = kernel.sizes()
    sizes.read([1, 2])
    kernel.resident[2], kernel.shares[2] = 1200, 1100  # 1000 more, and 50 that it has no longer for itself
    assert sizes.read([1, 2])[2] == 1150
    assert sizes.read([1, 2])[2] == 1100


def test_a_new_process_is_measured_alone_and_one_that_ended_takes_nothing() -> None:
    kernel = Kernel({1: 100, 2: 200}, {1: 60, 2: 150})
    sizes = kernel.sizes()
    sizes.read([1, 2])
    kernel.taken()
    del kernel.resident[2], kernel.shares[2]
    assert sizes.read([1, 2]) == {1: 60, 2: 0}
    kernel.resident[3], kernel.shares[3] = 300, 250
    kernel.taken()
    assert sizes.read([1, 3]) == {1: 60, 3: 250}
    assert kernel.taken() == [3]


def test_a_process_of_which_no_share_is_told_counts_whole() -> None:
    kernel = Kernel({1: 100}, {1: None})
    assert kernel.sizes().read([1]) == {1: 100}


def test_a_share_is_never_below_nothing() -> None:
    kernel = Kernel({1: 100}, {1: 130})
    sizes = kernel.sizes()
    assert sizes.read([1]) == {1: 100}, "it gave pages back between the two looks"
    kernel.resident[1], kernel.shares[1] = 200, 20
    sizes.read([1])
    kernel.resident[1] = 10
    kernel.shares[1] = None
    assert sizes.read([1]) == {1: 10}


def test_the_kernel_and_the_estimate_agree() -> None:
    share_bytes = proportional_bytes(os.getpid())
    assert share_bytes is not None
    told = ProcessSizes().read([os.getpid()])[os.getpid()]
    assert abs(told - share_bytes) < 4 * MIB


STUCK = """
import ctypes, threading, time
from pathlib import Path

held = bytearray(64 << 20)
held[::4096] = b"x" * (len(held) >> 12)

def outlast():
    while not Path("/proc/self/statm").read_text().startswith("0"):
        time.sleep(0.01)
    print(flush=True)
    time.sleep(3600)

threading.Thread(target=outlast).start()
ctypes.CDLL(None).syscall(60, 0)  # exit, of this thread alone
"""


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="system calls have other numbers elsewhere")
def test_a_process_whose_first_thread_has_ended_is_told_by_the_others() -> None:
    """The kernel keeps such a one where it kills a process that has a thread in a driver that does not return."""
    with subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert unshared_bytes(process.pid) >= 64 * MIB
        finally:
            process.kill()
    assert unshared_bytes(process.pid) == 0
