"""Threads and children of one that asked for short time slices have them, too."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from agent.processes.scheduling import time_slice
from agent.processes.walls import kernel

TELL = "from agent.processes.scheduling import time_slice; print(time_slice.present_ns())"


def is_known() -> bool:
    """Say whether this kernel has slices, which those before 6.12 do not tell."""
    try:
        return time_slice.present_ns() > 0
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not is_known(), reason="this kernel knows no slices of threads")


def on_a_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join(60)
    return found[0]


def test_a_thread_a_child_and_what_returns_from_idle_priority_keep_the_short_slice() -> None:
    def shortened() -> tuple[object, ...]:
        time_slice.shorten()
        child = subprocess.run([sys.executable, "-c", TELL], capture_output=True, text=True, check=True)
        seen = (time_slice.present_ns(), on_a_thread(time_slice.present_ns), int(child.stdout))
        with suppress(PermissionError):  # without the right to return it stays idle, and ends soon
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        return (*seen, time_slice.present_ns())

    before = time_slice.present_ns()
    assert on_a_thread(shortened) == (time_slice.SHORTEST_NS,) * 4
    assert time_slice.present_ns() == before, "because only the thread that asked and what it starts are changed"


def test_a_refusal_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError("forbidden")

    monkeypatch.setattr(kernel, "call", refuse)
    time_slice.shorten()
