"""All threads of another process are lowered, and returned to what the process has."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.processes.scheduling import priorities
from agent.processes.scheduling.priorities import Lowered, can_return

OWN = os.getpriority(os.PRIO_PROCESS, 0)
PROGRAM = """
import os, sys, threading
def stay():
    os.nice(3)
    print("up", flush=True)
    threading.Event().wait()
threading.Thread(target=stay, daemon=True).start()
for _ in sys.stdin:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    print("begun", flush=True)
"""


@pytest.fixture
def process() -> Iterator["subprocess.Popen[str]"]:
    """Give a process with two threads, of which one is nicer."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as one:
        assert one.stdout is not None
        one.stdout.readline()
        yield one
        one.kill()


def nice_of(process: "subprocess.Popen[str]") -> list[int]:
    """Return the nice value of each thread, oldest thread first."""
    threads = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
    return [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads]


@pytest.mark.skipif(not can_return(), reason="this user may not raise a priority")
def test_threads_return_to_what_the_process_has_also_those_of_a_load_that_may_have_ended(
    process: "subprocess.Popen[str]",
) -> None:
    before = nice_of(process)
    assert before == [OWN, min(19, OWN + 3)]
    lowered = Lowered(process.pid)
    assert nice_of(process) == [priorities.LEAST] * 2
    assert process.stdin is not None
    assert process.stdout is not None
    print("another", file=process.stdin, flush=True)
    process.stdout.readline()
    assert nice_of(process) == [priorities.LEAST] * 3
    lowered.restore()
    assert nice_of(process) == [OWN] * 3


@pytest.mark.skipif(not can_return(), reason="this user may not raise a priority")
def test_a_thread_that_ends_in_the_middle_spares_no_other(
    process: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, ended = Lowered._threads, 1 << 30
    monkeypatch.setattr(Lowered, "_threads", lambda one: [ended, *listed(one)])
    lowered = Lowered(process.pid)
    assert nice_of(process) == [priorities.LEAST] * 2
    lowered.restore()
    assert nice_of(process) == [OWN] * 2


@pytest.mark.skipif(not can_return(), reason="this user may not raise a priority")
def test_a_thread_that_begins_in_the_middle_is_found_by_the_next_listing(
    process: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Lowered._threads
    listings: list[int] = []

    def late(one: Lowered) -> list[int]:
        listings.append(1)
        return sorted(listed(one))[: len(listings)]

    monkeypatch.setattr(Lowered, "_threads", late)
    lowered = Lowered(process.pid)
    assert nice_of(process) == [priorities.LEAST] * 2
    listings.clear()
    lowered.restore()
    assert nice_of(process) == [OWN] * 2


@pytest.mark.skipif(not can_return(), reason="this user may not raise a priority")
def test_a_process_can_be_lowered_to_a_tenth(process: "subprocess.Popen[str]") -> None:
    lowered = Lowered(process.pid, by=10)
    assert nice_of(process) == [min(19, OWN + 10)] * 2
    lowered.restore()
    assert nice_of(process) == [OWN] * 2


def test_nothing_is_lowered_that_could_not_be_raised_again(
    process: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch
) -> None:
    before = nice_of(process)
    monkeypatch.setattr(priorities, "can_return", lambda: False)
    Lowered(process.pid).restore()
    assert nice_of(process) == before


def test_a_process_that_ended_is_no_error(process: "subprocess.Popen[str]") -> None:
    lowered = Lowered(process.pid)
    process.kill()
    process.wait(60)
    lowered.restore()
    Lowered(process.pid).restore()
