"""The threads that a runtime keeps of closed models: the next load may run on them."""

import ctypes
import threading
import time
from collections.abc import Callable

import pytest

from agent.inference.scheduling import runtime_threads
from agent.inference.scheduling.runtime_threads import RuntimeThreads


class Kernel:
    """Threads with the CPU time that they have used."""

    def __init__(self) -> None:
        self.times_ns: dict[int, int] = {}

    def starts(self, *threads: int) -> None:
        self.times_ns.update(dict.fromkeys(threads, 1))

    def runs(self, *threads: int) -> None:
        for thread in threads:
            self.times_ns[thread] += 1


class Model:
    """A model whose end is what counts."""


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    found = Kernel()
    monkeypatch.setattr(runtime_threads, "_times_ns", lambda: dict(found.times_ns))
    return found


def kept(threads: RuntimeThreads) -> frozenset[int]:
    with threads.of_load() as load:
        return load.kept


def loaded(threads: RuntimeThreads, work: Callable[[], None]) -> Model:
    model = Model()
    with threads.of_load() as load:
        work()
        load.serve(model)
    return model


def test_a_thread_of_a_closed_model_is_kept_and_one_of_a_model_that_serves_is_not(kernel: Kernel) -> None:
    threads = RuntimeThreads()
    one = loaded(threads, lambda: kernel.starts(101))
    other = loaded(threads, lambda: kernel.starts(102))
    assert kept(threads) == frozenset()
    del one
    assert kept(threads) == {101}
    del other
    assert kept(threads) == {101, 102}


def test_a_thread_that_the_next_load_took_is_its_models(kernel: Kernel) -> None:
    threads = RuntimeThreads()
    model = loaded(threads, lambda: kernel.starts(101, 102))
    del model
    model = loaded(threads, lambda: kernel.runs(101))
    assert kept(threads) == {102}
    kernel.runs(101)
    del model
    assert kept(threads) == {101, 102}, "it has run for its model, and not since"


def test_a_thread_that_all_models_share_is_not_lowered_under_those_that_serve(kernel: Kernel) -> None:
    threads = RuntimeThreads()
    model = loaded(threads, lambda: kernel.starts(101, 109))
    del model
    kernel.runs(109)
    assert kept(threads) == {101}


def test_the_threads_of_a_failed_load_are_kept(kernel: Kernel) -> None:
    threads = RuntimeThreads()

    def fail() -> None:
        with threads.of_load():
            kernel.starts(101)
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert kept(threads) == {101}


def test_a_thread_that_ended_is_forgotten(kernel: Kernel) -> None:
    threads = RuntimeThreads()
    model = loaded(threads, lambda: kernel.starts(101))
    del model
    del kernel.times_ns[101]
    model = loaded(threads, lambda: None)
    kernel.starts(101)
    assert kept(threads) == frozenset()
    del model


def test_python_threads_are_nobodys() -> None:
    threads, end = RuntimeThreads(), threading.Event()
    started = threading.Thread(target=end.wait, args=(60,))
    model = loaded(threads, started.start)
    del model
    try:
        assert kept(threads) == frozenset()
    finally:
        end.set()
        started.join()


def test_the_kernel_tells_the_time_of_a_thread_that_a_library_started() -> None:
    library = ctypes.CDLL(None)
    begin = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(("pause", library))
    threads, thread = RuntimeThreads(), ctypes.c_ulong()

    def start() -> None:
        before = runtime_threads._times_ns().keys()
        assert library.pthread_create(ctypes.byref(thread), None, begin, None) == 0
        deadline_s = time.monotonic() + 30
        while runtime_threads._times_ns().keys() == before and time.monotonic() < deadline_s:
            time.sleep(0.001)  # until the kernel lists it

    model = loaded(threads, start)
    assert kept(threads) == frozenset()
    del model
    try:
        assert len(kept(threads)) == 1
    finally:
        library.pthread_cancel(thread)
        library.pthread_join(thread, None)
