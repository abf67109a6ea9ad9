"""Loads run behind the lines that serve, with the right to return and without it."""

import os
import threading
from collections.abc import Callable

import pytest

from agent.inference.scheduling import load_priority
from agent.processes.scheduling import priorities

NICE = os.getpriority(os.PRIO_PROCESS, os.getpid())
NORMAL = (os.SCHED_OTHER, NICE)
LOWERED: dict[load_priority.LoadPriority, tuple[int, int]] = {
    "background": (os.SCHED_OTHER, NICE + 5),
    "idle": (os.SCHED_IDLE, NICE),
}


def place() -> tuple[int, int]:
    """Return policy and nice value of the calling thread."""
    return os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def on_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)


@pytest.mark.parametrize(
    ("idle_share", "serving", "unready", "priority"),
    [
        (0.9, set(), set(), "normal"),
        (0.9, {"line-1"}, {"line-1"}, "normal"),
        (0.2, {"line-1"}, set(), "idle"),
        (0.2, {"line-1", "line-2"}, {"line-1"}, "idle"),
        (0.1, {"line-1"}, {"line-1"}, "normal"),
        (0.1, {"line-1"}, {"line-1", "line-2"}, "normal"),
        (0.1, {"line-1", "line-2"}, {"line-1"}, "background"),
        (0.1, {"line-1"}, set(), "background"),
    ],
)
def test_a_load_goes_before_frames_of_lines_that_wait_for_it_only_and_else_takes_idle_time(
    idle_share: float, serving: set[str], unready: set[str], priority: str
) -> None:
    assert load_priority.choose(idle_share, serving, unready) == priority


@pytest.mark.parametrize("priority", ["background", "idle"])
def test_a_load_and_what_it_starts_return_to_normal_after_it(priority: load_priority.LoadPriority) -> None:
    if not priorities.can_return():
        pytest.skip("this user may not raise a priority")
    seen: dict[str, tuple[int, int]] = {}
    is_over, is_lowered = threading.Event(), threading.Event()

    def of_the_runtime() -> None:
        seen["its own, meanwhile"] = place()
        is_lowered.set()
        is_over.wait(60)
        seen["its own, afterwards"] = place()

    def load() -> None:
        with load_priority.lowered(priority, may_stay=False):
            seen["the load"] = place()
            thread = threading.Thread(target=of_the_runtime)
            thread.start()
            is_lowered.wait(60)
        seen["afterwards"] = place()
        is_over.set()
        thread.join(60)

    on_a_thread(load)
    assert seen["the load"] == seen["its own, meanwhile"] == LOWERED[priority]
    assert seen["afterwards"] == seen["its own, afterwards"] == NORMAL


@pytest.mark.parametrize("may_stay", [True, False])
@pytest.mark.parametrize("priority", ["background", "idle"])
def test_without_the_right_to_return_only_a_thread_that_ends_soon_is_lowered_and_never_to_idle(
    *, priority: load_priority.LoadPriority, may_stay: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priorities, "can_return", lambda: False)
    seen: list[tuple[int, int]] = []

    def load() -> None:
        with load_priority.lowered(priority, may_stay=may_stay):
            seen.append(place())

    on_a_thread(load)
    assert seen == [LOWERED["background"] if may_stay else NORMAL]


def test_what_a_load_raises_is_raised_at_normal_priority() -> None:
    seen: list[tuple[int, int]] = []

    def load() -> None:
        with pytest.raises(ValueError, match="no"), load_priority.lowered("background", may_stay=False):
            raise ValueError("no")
        seen.append(place())

    on_a_thread(load)
    assert seen == [NORMAL]


@pytest.mark.skipif(not priorities.can_return(), reason="this user may not raise a priority")
def test_the_end_of_one_block_leaves_another_threads_priority() -> None:
    """A picture of the idle prover ends while a load is on, and the other way round."""
    lowered_thread, may_end = [0], threading.Event()
    began = threading.Event()

    def load() -> None:
        with load_priority.lowered("idle", may_stay=True):
            lowered_thread[0] = threading.get_native_id()
            began.set()
            may_end.wait(60)

    thread = threading.Thread(target=load)
    with load_priority.lowered("idle", may_stay=False):
        thread.start()
        assert began.wait(60)
    try:
        assert os.sched_getscheduler(0) == os.SCHED_OTHER
        assert os.sched_getscheduler(lowered_thread[0]) == os.SCHED_IDLE
    finally:
        may_end.set()
        thread.join()


@pytest.mark.skipif(not priorities.can_return(), reason="this user may not raise a priority")
@pytest.mark.parametrize("priority", ["background", "idle"])
def test_a_kept_thread_is_lowered_with_the_load_and_returns_with_it(priority: load_priority.LoadPriority) -> None:
    seen: list[tuple[int, int]] = []
    told, asked, ended = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def of_the_runtime() -> None:
        while not ended.is_set():
            assert asked.acquire(timeout=60)
            seen.append(place())
            told.release()

    def look() -> None:
        asked.release()
        assert told.acquire(timeout=60)

    thread = threading.Thread(target=of_the_runtime)
    thread.start()
    look()
    with load_priority.lowered(priority, may_stay=True, others={thread.native_id or 0, 1 << 22}):
        look()
    ended.set()
    look()
    thread.join(60)
    assert seen == [NORMAL, LOWERED[priority], NORMAL]
