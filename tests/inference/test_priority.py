"""Loads run behind the lines, with rights and without, and never where nobody could bring them on."""

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agent.inference.scheduling import thread_priority
from agent.inference.scheduling.load_priority import LoadPriorityMonitor
from agent.inference.scheduling.thread_priority import LoadPriority


def where() -> tuple[int, int, int]:
    """Say on which thread, under which policy, and how nice the caller runs."""
    thread = threading.get_native_id()
    return thread, os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, thread)


def aside(rung: LoadPriority = "idle") -> tuple[int, int, int]:
    seen: list[tuple[int, int, int]] = []
    thread_priority.run_aside(lambda: seen.append(where()), rung)
    return seen[0]


@pytest.fixture
def no_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thread_priority, "can_return", lambda: False)


def test_with_rights_the_caller_steps_back_and_returns() -> None:
    if not thread_priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    before = where()
    assert aside() == (before[0], os.SCHED_IDLE, before[2])
    assert where() == before


def test_with_rights_a_load_on_busy_cores_runs_a_little_behind() -> None:
    if not thread_priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    before = where()
    assert aside("behind") == (before[0], os.SCHED_OTHER, before[2] + 5)
    assert where() == before


@pytest.mark.usefixtures("no_rights")
@pytest.mark.parametrize(("rung", "policy", "nicer"), [("idle", os.SCHED_IDLE, 0), ("behind", os.SCHED_OTHER, 5)])
def test_without_rights_a_thread_of_its_own_steps_back(rung: LoadPriority, policy: int, nicer: int) -> None:
    before = where()
    thread, *found = aside(rung)
    assert thread != before[0]
    assert found == [policy, before[2] + nicer]
    assert where() == before


@pytest.mark.usefixtures("no_rights")
def test_a_first_load_runs_like_anything_else() -> None:
    assert aside("usual") == where()


@pytest.mark.usefixtures("no_rights")
@pytest.mark.parametrize("error", [ValueError("no"), MemoryError()])
def test_what_work_raises_is_raised(error: Exception) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        thread_priority.run_aside(work, "idle")
    assert raised.value is error


def test_a_hurried_load_takes_the_threads_along_that_it_started() -> None:
    if not thread_priority.can_return():
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
        thread_priority.restore_normal()
        is_hurried.set()
        thread.join()
        seen.append(os.sched_getscheduler(0))

    thread_priority.run_aside(work, "idle")
    assert seen == [os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_OTHER]


@pytest.fixture
def aside_thread() -> Iterator[int]:
    """Yield the id of a thread that loads at low priority until the test is over."""
    if not thread_priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    ids: list[int] = []
    is_aside, is_over = threading.Event(), threading.Event()

    def work() -> None:
        ids.append(threading.get_native_id())
        is_aside.set()
        is_over.wait(60)

    thread = threading.Thread(target=thread_priority.run_aside, args=(work, "idle"))
    thread.start()
    is_aside.wait(60)
    yield ids[0]
    is_over.set()
    thread.join()


def place_of(thread: int) -> tuple[int, int]:
    return os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)


@dataclass
class Load:
    """A load that is looked at each tenth of a second: what it got of a core, and whether it wanted one."""

    monkeypatch: pytest.MonkeyPatch
    timeout_s: float = 60.0
    age_s: float = 0.0
    ran_s: float = 0.0

    def __post_init__(self) -> None:
        self.monkeypatch.setattr(thread_priority, "cpu_s", lambda threads: dict.fromkeys(threads, self.ran_s))
        self.patience = LoadPriorityMonitor(self.timeout_s)

    def goes_on(
        self, seconds: float, *, share: float, wants: bool = True, awaited: bool = True, own: bool = False
    ) -> None:
        self.monkeypatch.setattr(thread_priority, "is_any_runnable", lambda _threads: wants)
        for _ in range(round(seconds * 10)):
            self.age_s += 0.1
            self.ran_s += 0.1 * share
            self.patience.look(self.age_s, is_awaited=awaited, is_own=own)


USUAL = os.getpriority(os.PRIO_PROCESS, os.getpid())
IDLE, BEHIND, LIKE_ANYTHING_ELSE = (
    (os.SCHED_IDLE, USUAL),
    (os.SCHED_OTHER, USUAL + 5),
    (os.SCHED_OTHER, USUAL),
)


def test_a_load_that_starves_runs_a_little_behind_and_at_last_like_anything_else(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(monkeypatch)
    load.goes_on(0.9, share=0.05)
    assert place_of(aside_thread) == IDLE
    load.goes_on(0.3, share=0.05)
    assert place_of(aside_thread) == BEHIND
    load.goes_on(2.5, share=0.08)
    assert place_of(aside_thread) == BEHIND
    load.goes_on(1.0, share=0.08)
    assert place_of(aside_thread) == LIKE_ANYTHING_ELSE


def test_a_load_that_began_behind_the_lines_has_only_the_second_degree_before_it(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(monkeypatch)
    thread_priority.raise_priority()
    load.patience.begin("behind")
    load.goes_on(2.9, share=0.05)
    assert place_of(aside_thread) == BEHIND
    load.goes_on(0.3, share=0.05)
    assert place_of(aside_thread) == LIKE_ANYTHING_ELSE


def test_a_load_that_gets_on_stays_idle_for_half_of_its_time(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(monkeypatch, timeout_s=30)
    load.goes_on(14.5, share=0.2)
    assert place_of(aside_thread) == IDLE
    load.goes_on(1.0, share=0.2)
    assert place_of(aside_thread) == LIKE_ANYTHING_ELSE
    thread_priority.set_idle(aside_thread)
    load.goes_on(0.1, share=0.2)
    assert place_of(aside_thread) == LIKE_ANYTHING_ELSE, "its next part stepped back anew"


def test_a_load_that_starves_only_late_steps_up_then(aside_thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(monkeypatch)
    load.goes_on(5.0, share=1.0)
    assert place_of(aside_thread) == IDLE
    load.goes_on(2.5, share=0.02)
    assert place_of(aside_thread) == BEHIND


def test_a_load_that_waits_for_something_else_than_a_core_stays_idle(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(monkeypatch)
    load.goes_on(5.0, share=0.0, wants=False)
    assert place_of(aside_thread) == IDLE


def test_a_starving_load_that_every_serving_line_waits_for_goes_before_their_frames(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(monkeypatch)
    load.goes_on(0.4, share=0.05, own=True)
    assert place_of(aside_thread) == IDLE
    load.goes_on(0.3, share=0.05, own=True)
    assert place_of(aside_thread) == LIKE_ANYTHING_ELSE


def test_a_load_of_its_own_line_that_gets_on_costs_it_no_frame(
    aside_thread: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Load(monkeypatch)
    load.goes_on(5.0, share=0.2, own=True)
    assert place_of(aside_thread) == IDLE


def test_a_starving_load_that_is_only_announced_stays_idle(aside_thread: int, monkeypatch: pytest.MonkeyPatch) -> None:
    load = Load(monkeypatch)
    load.goes_on(20.0, share=0.0, awaited=False)
    assert place_of(aside_thread) == IDLE
    load.goes_on(0.8, share=0.0)
    assert place_of(aside_thread) == BEHIND


def test_a_thread_that_computes_is_runnable_and_one_that_waits_is_not() -> None:
    is_over = threading.Event()
    ids: list[int] = []

    def wait() -> None:
        ids.append(threading.get_native_id())
        is_over.wait(60)

    thread = threading.Thread(target=wait)
    thread.start()
    while not ids or thread_priority.is_any_runnable(ids):
        time.sleep(0.001)
    assert thread_priority.is_any_runnable([*ids, threading.get_native_id()])
    is_over.set()
    thread.join()
    assert not thread_priority.is_any_runnable([2**22 + 1])


def test_what_a_load_stepped_up_is_put_back_after_it() -> None:
    if not thread_priority.can_return():
        pytest.skip("this user may not leave SCHED_IDLE")
    before = where()
    thread_priority.run_aside(thread_priority.raise_priority, "idle")
    assert where() == before


def test_the_time_that_a_thread_ran_is_counted() -> None:
    own = threading.get_native_id()
    before_s = thread_priority.cpu_s([own])[own]
    while time.thread_time() < before_s + 0.2:
        pass
    assert thread_priority.cpu_s([own])[own] > before_s
    assert thread_priority.cpu_s([2**22 + 1]) == {}
