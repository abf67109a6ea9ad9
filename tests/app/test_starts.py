"""A worker that starts again is lowered until it serves, and no longer than a start may be."""

import pytest

from agent.app.children.groups.starts import LONGEST_S, Starts
from agent.processes.scheduling.priorities import LEAST, Lowered

PID = 7
BEGAN_S = 100.0


@pytest.fixture
def told() -> list[str]:
    """Give what became of processes."""
    return []


@pytest.fixture
def starts(told: list[str]) -> Starts:
    """Give a worker of the group `press` that has begun to start."""

    class Noted(Lowered):
        def __init__(self, pid: int, by: int) -> None:
            told.append(f"lowered {pid} by {by}")

        def restore(self) -> None:
            told.append("restored")

    starts = Starts(Noted)
    starts.began("press", PID, BEGAN_S)
    return starts


def test_a_start_is_lowered_until_the_worker_serves(starts: Starts, told: list[str]) -> None:
    assert starts.look("press", PID, BEGAN_S + 0.5, serves=False) == 60
    assert told == [f"lowered {PID} by {LEAST}"]
    assert starts.look("press", PID, BEGAN_S + 0.6, serves=True) == 1
    assert starts.look("press", PID, BEGAN_S + 0.7, serves=False) == 1
    assert told[1:] == ["restored"]


def test_a_start_that_gets_no_time_goes_on_at_normal_priority(starts: Starts, told: list[str]) -> None:
    assert starts.look("press", PID, BEGAN_S + LONGEST_S - 0.1, serves=False) == 60
    assert starts.look("press", PID, BEGAN_S + LONGEST_S, serves=False) == 1
    assert told[1:] == ["restored"]


@pytest.mark.parametrize("pid", [None, PID + 1])
def test_a_process_that_is_no_longer_the_groups_worker_is_let_go(starts: Starts, pid: int | None) -> None:
    assert starts.look("press", pid, BEGAN_S + 0.1, serves=False) == 1


def test_others_are_not_lowered(starts: Starts) -> None:
    assert starts.look("default", PID + 1, BEGAN_S, serves=False) == 1
