"""Loads run behind the lines, with rights and without, and never where nobody could bring them on."""

import os
import threading
import time
from collections.abc import Iterator

import pytest

from agent.inference import priority
from agent.inference.patience import Patience


def where() -> tuple[int, int, int]:
    """Say on which thread, under which policy, and how nice the caller runs."""
    thread = threading.get_native_id()
    return thread, os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, thread)


def aside(*, is_wanted: bool = True) -> tuple[int, int, int]:
    seen: list[tuple[int, int, int]] = []
    priority.run_aside(lambda: seen.append(where()), is_wanted=is_wanted)
    return seen[0]


@pytest.fixture
def no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "can_return", lambda: False)


def test_with_rights_the_caller_steps_back_and_returns() -> None:
    if not priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    before = where()
    assert aside() == (before[0], os.SCHED_IDLE, before[2])
    assert where() == before


@pytest.mark.usefixtures("no_rights")
def test_without_rights_a_thread_of_its_own_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_idle_share", lambda window_s: 0.5 + window_s)
    before = where()
    thread, policy, _ = aside()
    assert (thread != before[0], policy) == (True, os.SCHED_IDLE)
    assert where() == before


@pytest.mark.usefixtures("no_rights")
def test_on_busy_cores_a_load_that_nobody_can_hurry_is_not_starved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_idle_share", lambda window_s: 0.1 * window_s)
    before = where()
    _, policy, nice = aside()
    assert (policy, nice) == (os.SCHED_OTHER, 5)
    assert where() == before


@pytest.mark.usefixtures("no_rights")
def test_a_first_load_runs_like_anything_else() -> None:
    assert aside(is_wanted=False) == where()


@pytest.mark.usefixtures("no_rights")
@pytest.mark.parametrize("error", [ValueError("no"), MemoryError()])
def test_what_work_raises_is_raised(error: Exception) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        priority.run_aside(work, is_wanted=True)
    assert raised.value is error


def test_the_share_of_idle_time_is_a_share() -> None:
    assert 0.0 <= priority._idle_share(0.02) <= 1.0


def test_a_hurried_load_takes_the_threads_along_that_it_started() -> None:
    if not priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    seen: list[int] = []
    is_idle, is_hurried = threading.Event(), threading.Event()

    def of_the_runtime() -> None:
        seen.append(os.sched_getscheduler(0))
        is_idle.set()
        is_hurried.wait(60)
        seen.append(os.sched_getscheduler(0))

    def work() -> None:
        thread = threading.Thread(target=of_the_runtime)
        thread.start()
        is_idle.wait(60)
        priority.hurry()
        is_hurried.set()
        thread.join()
        seen.append(os.sched_getscheduler(0))

    priority.run_aside(work, is_wanted=True)
    assert seen == [os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_OTHER]


@pytest.fixture
def aside_thread() -> Iterator[int]:
    """Yield the id of a thread that loads at low priority until the test is over."""
    if not priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    ids: list[int] = []
    is_aside, is_over = threading.Event(), threading.Event()

    def work() -> None:
        ids.append(threading.get_native_id())
        is_aside.set()
        is_over.wait(60)

    thread = threading.Thread(target=priority.run_aside, args=(work,), kwargs={"is_wanted": True})
    thread.start()
    is_aside.wait(60)
    yield ids[0]
    is_over.set()
    thread.join()


def place_of(thread: int) -> tuple[int, int]:
    return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)


def ran(monkeypatch: pytest.MonkeyPatch, share: float, age_s: float) -> None:
    """Have the stepped back threads look as if they had run for a share of one core."""
    monkeypatch.setattr(priority, "cpu_s", lambda threads: dict.fromkeys(list(threads)[:1], share * age_s))


def test_a_load_that_starves_runs_a_little_behind_and_at_last_like_anything_else(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(priority, "cpu_s", lambda _threads: {})
    usual = os.getpriority(os.PRIO_PROCESS, os.getpid())
    patience = Patience()
    patience.look(0.2)
    assert place_of(aside_thread) == (os.SCHED_IDLE, usual)
    ran(monkeypatch, 0.1, 1.0)
    patience.look(1.0)
    assert place_of(aside_thread) == (os.SCHED_OTHER, usual + 5)
    patience.look(3.5)
    assert place_of(aside_thread) == (os.SCHED_OTHER, usual)


def test_a_load_that_gets_on_stays_idle(aside_thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "cpu_s", lambda _threads: {})
    patience = Patience()
    ran(monkeypatch, 0.5, 1.0)
    patience.look(1.0)
    assert place_of(aside_thread)[0] == os.SCHED_IDLE


def test_what_a_load_stepped_up_is_put_back_after_it() -> None:
    if not priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    before = where()
    priority.run_aside(priority.step_up, is_wanted=True)
    assert where() == before


def test_the_time_that_a_thread_ran_is_counted() -> None:
    own = threading.get_native_id()
    before_s = priority.cpu_s([own])[own]
    while time.thread_time() < before_s + 0.2:
        pass
    assert priority.cpu_s([own])[own] > before_s
    assert priority.cpu_s([2**22 + 1]) == {}
