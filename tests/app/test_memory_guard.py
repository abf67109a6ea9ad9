"""Control's guard ends the worker that takes the memory of other groups, and no other."""

from dataclasses import dataclass, field

import pytest

from agent.app.children.groups.memory_guard import HostMemory, MemoryGuard

MOST = {"default": 700, "press": 600}
PIDS = {"default": 1, "press": 2}
SHORT = HostMemory(available_bytes=99, total_bytes=1000)
ENOUGH = HostMemory(available_bytes=100, total_bytes=1000)


@dataclass
class Watched:
    """A guard, what it reads, and whom it has ended."""

    device: HostMemory = SHORT
    taken: dict[int, int] = field(default_factory=lambda: {1: 650, 2: 650})
    ended: list[str] = field(default_factory=list)
    now_s: float = 0.0

    def __post_init__(self) -> None:
        self.guard = MemoryGuard(lambda group, _: self.ended.append(group), lambda: self.device, self.taken.__getitem__)

    def look(self, times: int = 1) -> list[str]:
        """Let so many looks pass, and return whom they ended."""
        self.ended.clear()
        for _ in range(times):
            self.guard.tick(self.now_s, PIDS, MOST)
            self.now_s += 0.5
        return list(self.ended)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_the_worker_beyond_its_wall_is_ended_and_no_other(watched: Watched) -> None:
    assert watched.look() == [], "it may be a peak"
    assert watched.look() == ["press"]


def test_nobody_is_ended_while_the_device_has_memory(watched: Watched) -> None:
    watched.device = ENOUGH
    assert watched.look(5) == []


def test_a_peak_ends_nobody(watched: Watched) -> None:
    for _ in range(3):
        watched.taken[2] = 650
        assert watched.look() == []
        watched.taken[2] = 600
        assert watched.look() == []


def test_it_looks_every_half_second(watched: Watched) -> None:
    watched.look()
    watched.now_s -= 0.3
    assert watched.look() == []
    assert watched.look() == ["press"]


def test_a_worker_that_is_down_is_none(watched: Watched) -> None:
    watched.look()
    watched.guard.tick(watched.now_s, {"default": 1}, MOST)
    assert not watched.ended
