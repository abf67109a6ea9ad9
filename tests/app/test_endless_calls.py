"""A worker that computes on one frame without end is lowered, and no other one."""

from dataclasses import dataclass, field

import pytest

from agent.app.children.groups import endless_calls
from agent.app.children.groups.endless_calls import EndlessCalls
from agent.processes.priorities import Lowered

PID = 7


@dataclass
class Watched:
    """A worker of the group `press`, the processor time that it has spent, and what becomes of it."""

    spent_s: float = 100.0
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = self.told

        class Noted(Lowered):
            def __init__(self, pid: int) -> None:
                told.append(f"lowered {pid}")

            def restore(self) -> None:
                told.append("restored")

        self._calls = EndlessCalls(lambda _: self.spent_s, Noted)

    def look(
        self,
        spent_s: float = 0.0,
        *,
        since_s: float = 5.0,
        usual_s: float = 0.0,
        pid: int | None = PID,
        is_hung: bool = False,
    ) -> list[str]:
        """Look after a further `spent_s` of processor time; return what happened by it."""
        self.told.clear()
        self.spent_s += spent_s
        self._calls.look("press", pid, since_s, usual_s, is_hung=is_hung)
        return list(self.told)

    def is_lowered(self) -> bool:
        return self._calls.is_lowered("press")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endless_calls, "_CORES", 2)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_call_that_computes_on_and_on_is_lowered_once_until_it_returns(watched: Watched) -> None:
    assert watched.look() == []
    assert watched.look(0.19) == []
    assert watched.look(0.02) == [f"lowered {PID}"]
    assert watched.is_lowered()
    assert watched.look(5.0) == []
    assert watched.look(since_s=0.0) == ["restored"]
    assert not watched.is_lowered()
    assert watched.look() == []


def test_a_call_that_waits_is_not_lowered_however_long_it_takes(watched: Watched) -> None:
    assert [watched.look() for _ in range(50)] == [[]] * 50


def test_each_call_counts_by_itself(watched: Watched) -> None:
    assert [watched.look(0.15, since_s=float(begin)) for begin in range(1, 30)] == [[]] * 29


def test_a_slow_model_may_take_three_times_what_it_usually_takes_on_all_cores(watched: Watched) -> None:
    watched.look(usual_s=0.5)
    assert watched.look(2.9, usual_s=0.5) == []
    assert watched.look(0.2, usual_s=0.5) == [f"lowered {PID}"]


def test_time_without_a_call_is_nobodys(watched: Watched) -> None:
    assert watched.look(9.0, since_s=0.0) == []
    assert watched.look(9.0, since_s=0.0) == []
    assert watched.look() == []


def test_a_worker_that_hangs_without_a_word_is_lowered(watched: Watched) -> None:
    assert watched.look(since_s=0.0, is_hung=True) == [f"lowered {PID}"]
    assert watched.look(since_s=0.0) == ["restored"]


def test_the_next_worker_begins_anew(watched: Watched) -> None:
    watched.look()
    watched.look(1.0)
    assert watched.look(pid=None) == ["restored"]
    assert watched.look(1.0, pid=PID + 1) == []
