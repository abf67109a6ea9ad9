"""What the cores have to spare is known before a load, and not taken from what a load leaves."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.inference.scheduling import idle_cpu
from agent.inference.scheduling.idle_cpu import IdleCpuSampler

DEADLINE_S = 60.0


class Cores:
    """Counts clock ticks of which a share is idle; `looked` tells of each look."""

    def __init__(self) -> None:
        self.idle_of_ten = 10
        self.ticks_a_look = 10_000
        self.looked = threading.Condition()
        self.looks = 0
        self._idle = self._all = 0

    def ticks(self) -> tuple[int, int]:
        with self.looked:
            self._idle += self.idle_of_ten * self.ticks_a_look // 10
            self._all += self.ticks_a_look
            self.looks += 1
            self.looked.notify_all()
            return self._idle, self._all

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for something that comes with a look."""
        with self.looked:
            assert self.looked.wait_for(is_so, DEADLINE_S)


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Cores:
    found = Cores()
    monkeypatch.setattr(idle_cpu, "ticks", found.ticks)
    return found


@pytest.fixture
def watch() -> Iterator[IdleCpuSampler]:
    one = IdleCpuSampler(window_s=0.01)
    one.start()
    yield one
    one.stop()


def test_the_share_follows_the_cores(cores: Cores, watch: IdleCpuSampler) -> None:
    cores.wait_until(lambda: watch.share == 1.0)
    cores.idle_of_ten = 3
    cores.wait_until(lambda: watch.share == 0.3)


def test_what_a_load_leaves_is_not_looked_at(cores: Cores, watch: IdleCpuSampler) -> None:
    cores.idle_of_ten = 6
    cores.wait_until(lambda: watch.share == 0.6)
    with watch.in_use():
        cores.idle_of_ten = 0
        seen = cores.looks
        assert not threading.Event().wait(0.1)
        assert cores.looks == seen
        assert watch.share == 0.6
    cores.idle_of_ten = 4
    cores.wait_until(lambda: watch.share == 0.4)


def test_a_window_that_a_load_cuts_short_counts(cores: Cores) -> None:
    one = IdleCpuSampler(window_s=DEADLINE_S)
    one.start()
    cores.wait_until(lambda: cores.looks == 1)
    cores.idle_of_ten = 2
    with one.in_use():
        assert one.share == 0.2, "on busy cores loads may follow each other too fast for a whole one"
    one.stop()


def test_a_moment_between_two_loads_says_nothing(cores: Cores) -> None:
    one = IdleCpuSampler(window_s=DEADLINE_S)
    one.start()
    cores.wait_until(lambda: cores.looks == 1)
    cores.ticks_a_look = 9
    with one.in_use():
        assert one.share == 0.0, "nor does anything else know what is to spare"
    one.stop()


def test_a_load_that_hangs_does_not_blind_it(cores: Cores, watch: IdleCpuSampler) -> None:
    with watch.in_use() as let_go:
        let_go()
        cores.idle_of_ten = 7
        cores.wait_until(lambda: watch.share == 0.7)
    cores.idle_of_ten = 5
    cores.wait_until(lambda: watch.share == 0.5)


def test_without_a_count_it_is_taken_that_some_is_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_cpu, "_STAT", Path("/nowhere/stat"))
    one = IdleCpuSampler()
    one.start()
    one._thread.join(DEADLINE_S)
    with one.in_use():
        assert one.share == 1.0
    one.stop()


def test_other_cores_than_ours_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 0 0 0 900 0 0 0 0 0 0\nintr 1\n")
    monkeypatch.setattr(idle_cpu, "_STAT", stat)
    monkeypatch.setattr(idle_cpu, "_CORES", frozenset({"cpu0"}))
    assert idle_cpu.ticks() == (45, 72)


def test_the_kernel_counts_idle_time_as_a_part_of_all() -> None:
    found = idle_cpu.ticks()
    assert found is not None
    assert 0 <= found[0] <= found[1]
