"""The idle time of our own cores, as the kernel counts it."""

from pathlib import Path

import pytest

from agent.inference.scheduling import idle_cpu
from agent.inference.scheduling.idle_cpu import IdleCpuSampler


class Cores:
    """Clock ticks of which a share is idle."""

    def __init__(self) -> None:
        self._idle = self._all = 0

    def pass_ticks(self, all_ticks: int, idle_of_ten: int) -> None:
        self._idle += all_ticks * idle_of_ten // 10
        self._all += all_ticks

    def ticks(self) -> tuple[int, int]:
        return self._idle, self._all


@pytest.fixture
def cores(monkeypatch: pytest.MonkeyPatch) -> Cores:
    found = Cores()
    monkeypatch.setattr(idle_cpu, "ticks", found.ticks)
    return found


def sampled(cores: Cores, *windows: tuple[int, int]) -> IdleCpuSampler:
    sampler = IdleCpuSampler()
    sampler.sample()
    for window in windows:
        cores.pass_ticks(*window)
        sampler.sample()
    return sampler


def test_the_share_is_that_of_the_last_window(cores: Cores) -> None:
    assert sampled(cores).share == 0.0, "nothing is known before the first"
    assert sampled(cores, (10_000, 8)).share == 0.8
    assert sampled(cores, (10_000, 8), (10_000, 3)).share == 0.3


def test_a_moment_says_nothing(cores: Cores) -> None:
    assert sampled(cores, (10_000, 8), (9, 0)).share == 0.8


def test_what_a_load_leaves_is_not_sampled_and_a_window_that_it_cuts_short_is(cores: Cores) -> None:
    sampler = sampled(cores)
    cores.pass_ticks(10_000, 6)
    with sampler.paused():
        assert sampler.share == 0.6
        for _ in range(2):
            cores.pass_ticks(10_000, 0)
            sampler.sample()
        assert sampler.share == 0.6
    sampler.sample()
    assert sampler.share == 0.6
    cores.pass_ticks(10_000, 4)
    sampler.sample()
    assert sampler.share == 0.4


def test_the_end_of_a_load_begins_a_window(cores: Cores) -> None:
    sampler = sampled(cores)
    with sampler.paused():
        cores.pass_ticks(10_000, 0)
    cores.pass_ticks(10_000, 7)
    sampler.sample()
    assert sampler.share == 0.7


def test_what_was_measured_seconds_ago_begins_no_preload(cores: Cores, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not sampled(cores).has_just_had(0.0), "nothing is known before the first window"
    sampler = sampled(cores, (10_000, 3))
    assert sampler.has_just_had(0.2)
    assert not sampler.has_just_had(0.4)
    monkeypatch.setattr(idle_cpu, "_FRESH_S", 0.0)
    assert not sampler.has_just_had(0.2)


def test_what_was_measured_before_a_moment_is_forgotten_but_for_the_share(cores: Cores) -> None:
    sampler = sampled(cores, (10_000, 8))
    cores.pass_ticks(10_000, 9)
    sampler.forget()
    assert not sampler.has_just_had(0.0)
    assert sampler.share == 0.8
    cores.pass_ticks(10_000, 3)
    sampler.sample()
    assert sampler.has_just_had(0.0)
    assert sampler.share == 0.3, "the window began anew"


def test_a_load_whose_share_is_forgotten_begins_a_window_at_its_end(cores: Cores) -> None:
    sampler = sampled(cores)
    cores.pass_ticks(10_000, 6)
    with sampler.paused():
        sampler.forget()
        cores.pass_ticks(10_000, 0)
    assert not sampler.has_just_had(0.0)
    assert sampler.share == 0.6
    cores.pass_ticks(10_000, 7)
    sampler.sample()
    assert sampler.has_just_had(0.7)


def test_without_a_count_it_is_taken_that_enough_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_cpu, "STAT", Path("/nowhere/stat"))
    sampler = IdleCpuSampler()
    sampler.sample()
    assert sampler.share == 1.0


def test_other_cores_than_ours_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 3 40 5 6 7 8 0 0\ncpu1 0 0 0 900 0 0 0 0 0 0\nintr 1\n")
    monkeypatch.setattr(idle_cpu, "STAT", stat)
    monkeypatch.setattr(idle_cpu, "CORES", frozenset({"cpu0"}))
    assert idle_cpu.ticks() == (45, 72)


def test_the_kernel_counts_idle_time_as_a_part_of_all() -> None:
    found = idle_cpu.ticks()
    assert found is not None
    assert 0 <= found[0] <= found[1]
