"""A worker that computes on one frame without end is lowered, and no other one."""

from dataclasses import dataclass, field

import pytest

from agent.app.children.groups import endless_calls
from agent.app.children.groups.endless_calls import EndlessCalls
from agent.processes.scheduling.priorities import LEAST, Lowered
from agent.processes.supervisor import Call

PID = 7
ENDLESS = [f"lowered {PID} by {LEAST}"]
HUNG = [f"lowered {PID} by 10"]


@dataclass
class Watched:
    """A worker of the group `press`, the processor time that it has spent, and what becomes of it."""

    spent_s: float = 100.0
    told_s: float = 50.0
    part: int = 1
    told: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        told = self.told

        class Noted(Lowered):
            def __init__(self, pid: int, by: int) -> None:
                told.append(f"lowered {pid} by {by}")

            def restore(self) -> None:
                told.append("restored")

        self._calls = EndlessCalls(lambda _: self.spent_s, Noted)

    def look(  # noqa: PLR0913 - each option is one thing that a test is about
        self,
        spent_s: float = 0.0,
        *,
        since_s: float = 5.0,
        turn_s: float = 0.02,
        pid: int | None = PID,
        is_hung: bool = False,
        is_request: bool = False,
        beats: bool = False,
    ) -> list[str]:
        """Look after a further `spent_s` of processor time, and after a heartbeat if it `beats`; return what became."""
        self.told.clear()
        self.spent_s += spent_s
        self.told_s += 0.25 * beats
        call = Call(since_s, is_request, self.told_s)
        self.part = self._calls.look("press", pid, call, turn_s, is_hung=is_hung)
        return list(self.told)


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endless_calls, "_CORES", 2)


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_call_that_computes_on_and_on_is_lowered_once_until_it_returns(watched: Watched) -> None:
    assert watched.look() == []
    assert watched.look(0.19) == []
    assert watched.look(beats=True) == []
    assert watched.look(0.02) == []
    assert watched.look(beats=True) == ENDLESS
    assert watched.look(5.0, beats=True) == []
    assert watched.part == 60
    assert watched.look(since_s=0.0, beats=True) == ["restored"]
    assert watched.part == 1
    assert watched.look() == []


def test_a_busy_worker_whose_short_calls_fall_on_the_heartbeats_is_never_lowered(watched: Watched) -> None:
    for beat in range(20):  # 20 ms each, on both cores, looked at five times between two heartbeats
        assert watched.look(0.1, since_s=float(beat), beats=True) == []
        assert [watched.look(0.1, since_s=float(beat)) for _ in range(4)] == [[]] * 4


def test_what_may_have_begun_after_the_last_heartbeat_that_told_of_a_call_does_not_count(watched: Watched) -> None:
    watched.look()
    assert watched.look(0.15) == []
    assert watched.look(0.15, beats=True) == []
    assert watched.look(0.15, since_s=6.0, beats=True) == []


def test_a_call_that_waits_is_not_lowered_however_long_it_takes(watched: Watched) -> None:
    assert [watched.look(beats=True) for _ in range(50)] == [[]] * 50


def test_a_slow_turn_may_take_three_times_what_it_usually_takes_on_all_cores(watched: Watched) -> None:
    watched.look(turn_s=0.5)
    watched.look(2.9, turn_s=0.5)
    assert watched.look(turn_s=0.5, beats=True) == []
    watched.look(0.2, turn_s=0.5)
    assert watched.look(turn_s=0.5, beats=True) == ENDLESS


@pytest.mark.parametrize(("turn_s", "is_request"), [(0.0, False), (0.02, True)])
def test_a_call_whose_usual_time_nobody_knows_is_lowered_only_where_it_hangs(
    watched: Watched,
    turn_s: float,
    is_request: bool,  # noqa: FBT001 - a parameter of the cases
) -> None:
    for _ in range(50):
        assert watched.look(1.0, turn_s=turn_s, is_request=is_request, beats=True) == []
    assert watched.look(turn_s=turn_s, is_request=is_request, is_hung=True, beats=True) == HUNG


def test_time_without_a_call_is_nobodys(watched: Watched) -> None:
    assert [watched.look(9.0, since_s=0.0, beats=True) for _ in range(3)] == [[]] * 3
    assert watched.look() == []


def test_a_worker_that_hangs_without_a_word_keeps_a_tenth_because_it_may_be_an_import(watched: Watched) -> None:
    assert watched.look(since_s=0.0, is_hung=True) == HUNG
    assert watched.part == 10
    assert watched.look(since_s=0.0) == ["restored"]


def test_the_next_worker_begins_anew(watched: Watched) -> None:
    watched.look()
    watched.look(1.0)
    assert watched.look(beats=True) == ENDLESS
    assert watched.look(pid=None) == ["restored"]
    assert watched.look(1.0, pid=PID + 1) == []
    assert watched.look(pid=PID + 1, beats=True) == []
