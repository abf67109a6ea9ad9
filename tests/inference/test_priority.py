"""Loads run behind the lines, with rights and without, and never where nobody could bring them on."""

import os
import threading

import pytest

from agent.inference import priority


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
