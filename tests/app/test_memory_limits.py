"""Memory limits of cgroups change in order, though lowering one may take the kernel long."""

import threading
from collections.abc import Iterator

import pytest
from support.waiting import DEADLINE_S, until

from agent.app.children.groups.memory_limits import MemoryLimits


class Kernel:
    """Takes limits; a lowered one of `slow` returns once a test says so."""

    def __init__(self) -> None:
        self.holds = {"default": "max", "slow": "max"}
        self.written: list[tuple[str, int]] = []
        self.waits, self.goes_on = threading.Event(), threading.Event()

    def write(self, group: str, limit_bytes: int) -> None:
        before, self.holds[group] = self.holds[group], str(limit_bytes)
        self.written.append((group, limit_bytes))
        if group == "slow" and before.isdecimal() and limit_bytes < int(before):
            self.waits.set()
            assert self.goes_on.wait(DEADLINE_S)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    kernel.goes_on.set()


def test_a_lowered_limit_holds_up_neither_the_caller_nor_a_raised_one(kernel: Kernel) -> None:
    limits = MemoryLimits(kernel.write)
    limits.set({"default": 500, "slow": 500})
    limits.set({"slow": 100, "default": 900})
    assert kernel.holds["default"] == "900", "because its worker may use it as soon as it is told"
    assert kernel.waits.wait(DEADLINE_S)
    limits.set({"slow": 100, "default": 950})
    limits.set({"slow": 100, "default": 800})
    assert kernel.holds == {"default": "950", "slow": "100"}
    kernel.goes_on.set()
    until(lambda: kernel.holds == {"default": "800", "slow": "100"})


def test_a_limit_that_is_raised_meanwhile_is_raised_at_once_and_stays_so(kernel: Kernel) -> None:
    limits = MemoryLimits(kernel.write)
    limits.set({"slow": 500})
    limits.set({"slow": 100})
    assert kernel.waits.wait(DEADLINE_S)
    limits.set({"slow": 400})
    until(lambda: kernel.holds["slow"] == "400")
    limits.set({"slow": 300})
    limits.set({"slow": 200})
    assert kernel.holds["slow"] == "400"
    kernel.goes_on.set()
    until(lambda: kernel.holds["slow"] == "200")
    assert ("slow", 300) not in kernel.written, "because the newest alone counts"


def test_a_raise_below_what_is_still_used_holds_nobody_up_and_undoes_no_later_limit() -> None:
    """Of a group that is at 600 still, while a limit of 100 is written, the kernel takes pages back for 400 as well."""
    holds: list[int] = []
    goes_on = threading.Event()

    def write(_group: str, limit_bytes: int) -> None:
        holds.append(limit_bytes)
        assert limit_bytes >= 600 or goes_on.wait(DEADLINE_S)

    limits = MemoryLimits(write)
    limits.set({"press": 900})
    limits.set({"press": 100})
    until(lambda: holds[-1] == 100)
    for size in (300, 400, 200):
        setter = threading.Thread(target=limits.set, args=({"press": size},))
        setter.start()
        setter.join(5)
        assert not setter.is_alive()
    until(lambda: 400 in holds)
    assert 200 not in holds, "because lowering waits its turn"
    goes_on.set()
    until(lambda: holds[-1] == 200 and not [one for one in threading.enumerate() if one.name == "memory limits"])


def test_a_late_lowering_does_not_undo_a_raise_that_overtook_it() -> None:
    written: list[int] = []
    late, goes_on, is_done = threading.Event(), threading.Event(), threading.Event()

    def write(_group: str, limit_bytes: int) -> None:
        if limit_bytes == 100:
            late.set()
            assert goes_on.wait(DEADLINE_S)
        written.append(limit_bytes)
        if len(written) == 4:
            is_done.set()

    limits = MemoryLimits(write)
    limits.set({"press": 500})
    limits.set({"press": 100})
    assert late.wait(DEADLINE_S)
    limits.set({"press": 900})
    until(lambda: written == [500, 900])
    goes_on.set()
    assert is_done.wait(DEADLINE_S)
    assert written == [500, 900, 100, 900]


def test_what_is_unchanged_is_not_written_again(kernel: Kernel) -> None:
    limits = MemoryLimits(kernel.write)
    for _ in range(3):
        limits.set({"default": 500})
    assert kernel.written == [("default", 500)]


def test_without_memory_for_a_thread_the_next_call_lowers(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    limits = MemoryLimits(kernel.write)
    limits.set({"default": 500})
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        limits.set({"default": 300})
    assert kernel.holds["default"] == "500"
    limits.set({"default": 300})
    until(lambda: kernel.holds["default"] == "300")
