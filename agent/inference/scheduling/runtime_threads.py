"""Finds the threads that a runtime keeps of closed models, because the next load may run on them."""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_TASKS: Final = Path("/proc/self/task")


class LoadThreads:
    """The threads of one load."""

    def __init__(self, kept: frozenset[int]) -> None:
        self.kept: Final = kept
        """Threads (ids of the kernel) of closed models that have not run since; the load may run on them."""
        self._model: object = None

    def serve(self, model: object) -> None:
        """Record that the threads that the load started or used serve `model`, until that is collected."""
        self._model = model

    def take_model(self) -> object:
        """Return the model once, None where there is none; it is not referred to any longer."""
        model, self._model = self._model, None
        return model


class RuntimeThreads:
    """Record of the threads that runtimes started for models, and of those that served a model that is gone.

    OpenVINO computes a load on a thread of a closed model with the same options, where it has one. That thread has
    returned to normal priority to serve, so it would take the time of the lines' frames unless it is lowered too.

    Threading: any thread. A load that overlaps another one may take its threads for its own.
    """

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._kept: Final[dict[int, int]] = {}
        """CPU time (ns) of each thread whose model is gone, at the time when it went."""

    @contextmanager
    def of_load(self) -> Iterator[LoadThreads]:
        """Run a load in the block.

        A thread that something else starts meanwhile is taken for the load's, which does no harm: it counts as kept
        only while it does not run.
        """
        before = _times_ns()
        with self._lock:
            kept = frozenset(thread for thread, time_ns in self._kept.items() if before.get(thread) == time_ns)
        load = LoadThreads(kept)
        try:
            yield load
        finally:
            self._end(load, before)

    def _end(self, load: LoadThreads, before: dict[int, int]) -> None:
        after, model = _times_ns(), load.take_model()
        pythons = {thread.native_id for thread in threading.enumerate()}
        ran = {thread for thread in load.kept if after.get(thread) != before[thread]}
        threads = ((after.keys() - before.keys()) | ran) - pythons
        if model is None:
            self._keep(threads)
            return
        with self._lock:
            for thread in ran | (self._kept.keys() - after.keys()):
                self._kept.pop(thread, None)  # None, because a load that timed out may end at the same time
        weakref.finalize(model, self._keep, threads).atexit = False

    def _keep(self, threads: set[int]) -> None:
        times_ns = _times_ns()
        with self._lock:
            self._kept.update({thread: times_ns[thread] for thread in threads if thread in times_ns})


def _times_ns() -> dict[int, int]:
    """Return the CPU time (ns) of each thread of this process whose time the kernel tells."""
    found = ((int(task.name), _time_ns(task)) for task in _TASKS.iterdir())
    return {thread: time_ns for thread, time_ns in found if time_ns is not None}


def _time_ns(task: Path) -> int | None:
    try:
        return int((task / "schedstat").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError, IndexError):
        return None  # because the thread has just ended, or the kernel does not count
