"""Switches a line to its assigned model, and reports the result; after a failure the previous model serves on."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory.cache import Entry
from agent.inference.serving.frame_loss import FrameLossMark
from agent.inference.serving.line_gate import ActiveModelGate
from agent.inference.swapping.load_job import Failure, LoadJob, LoadTimes
from agent.inference.swapping.load_queue import LoadQueue
from agent.inference.swapping.turn_thread import TurnThread
from agent.messages.children import (
    Assign,
    Breaking,
    Message,
    Order,
    Preparing,
    Residency,
    SwapFailed,
    Swapped,
    SwapReport,
)
from agent.messages.errors import ModelError, OutOfMemoryError, Reason
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)
_NO_TIMES: Final = LoadTimes()


@dataclass(frozen=True)
class _Task:
    """An assignment at the moment of its arrival."""

    assign: Assign
    marks: dict[str, FrameLossMark]
    """The frame counts of the line's streams."""
    had_model: bool
    """A model served the line."""


class _OvertakenError(Exception):
    """A newer assignment waits, or the worker stops."""


class Swapper:
    """Thread that changes the active model of one line. Owner: the worker.

    The newest assignment wins: it replaces a waiting one, and ends a running one at the next point where that is
    possible. A running load is kept where the newer assignment wants the same model.

    Threading: `assign` may be called from any thread. The load queue's `turn` guards the assignments.
    """

    def __init__(self, line: ActiveModelGate[Model], loads: LoadQueue, send: Callable[[Message], None]) -> None:
        self._line: Final = line
        self._loads: Final = loads
        self._send: Final = send
        self._pending: _Task | None = None
        self._task: _Task | None = None
        self._newest_change: int | None = None
        self._fallback: ModelVersion | None = None
        self._thread: Final = TurnThread(f"swapper {line.name}", loads.turn, self._step)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and abandon an assignment in progress; the line keeps its model."""
        self._thread.stop()

    def assign(self, assign: Assign) -> None:
        """Enqueue an assignment; returns at once. Each is answered once, by Swapped or SwapFailed."""
        line = self._line
        task = _Task(assign, line.mark(time.monotonic_ns()), line.has_served)
        with self._loads.turn:
            overtaken: _Task | None = task
            if self._newest_change is None or assign.change >= self._newest_change:
                overtaken, self._pending = self._pending, task
                self._newest_change = assign.change
            self._loads.turn.notify_all()
        if overtaken is not None:
            self._superseded(overtaken)

    def _step(self) -> None:
        """Wait for an assignment, execute it, and answer it in any case."""
        with self._loads.turn:
            self._loads.turn.wait_for(self._is_overtaken)
            if self._thread.is_stopping:
                return
            self._task, self._pending = self._pending, None
        is_settled = False
        try:
            self._settle()
            is_settled = True
        finally:  # because control waits for an answer even where this thread crashes
            if not is_settled and self._task is not None:
                self._tell_failed(self._task, "load_failed", "the worker failed; see its log")

    def _settle(self) -> None:
        """Swap to the assigned model, or report the failure."""
        assert self._task is not None, "it was taken"
        try:
            self._swap(self._task)
        except _OvertakenError:
            if not self._thread.is_stopping:
                self._superseded(self._task)
        except (ModelError, OutOfMemoryError) as error:
            self._failed(error)

    def _swap(self, task: _Task) -> None:
        model = task.assign.model
        active = self._line.active
        if active is not None and active.version == model:
            self._send(self._swapped(task, "resident", _NO_TIMES, frames_lost=0))
            return
        found = self._loads.obtain(model, self._line.name, is_ready=task.assign.keeps_ready)
        if isinstance(found, LoadJob):
            self._loads.used(model, self._line.name)  # before the load, because its evictions depend on it
            entry = self._wait_for(found, may_adopt=True)
            self._flip(entry, "cold", found.times)
        else:
            self._flip(found, "resident", _NO_TIMES)
            self._loads.used(model, self._line.name)

    def _flip(self, entry: Entry[Model], residency: Residency, times: LoadTimes) -> None:
        task = self._task  # the newest assignment, which may have taken over the load
        assert task is not None

        def announce() -> None:
            lost = self._line.lost_since(task.marks) if task.had_model else 0
            self._send(self._swapped(task, residency, times, frames_lost=lost))

        self._line.flip(entry, announce)
        self._fallback = None
        self._loads.settle()

    def _swapped(self, task: _Task, residency: Residency, times: LoadTimes, *, frames_lost: int) -> Swapped:
        blind_ms = self._line.blind_ms(time.monotonic_ns())
        order: Order = "break-before-make" if blind_ms else "make-before-break"
        report = SwapReport(
            residency=residency,
            order=order,
            load_ms=round(times.load_ms, 3),
            warmup_ms=round(times.warmup_ms, 3),
            blind_ms=round(blind_ms, 3),
            frames_lost=frames_lost,
        )
        return Swapped(task.assign.line, task.assign.change, task.assign.model.reference, report)

    def _wait_for(self, job: LoadJob, *, may_adopt: bool) -> Entry[Model]:
        """Wait for a load, and return its entry, which this line has claimed then.

        Raises the error of the load, or _OvertakenError, after which nothing is claimed. `may_adopt`: a newer
        assignment of the same model takes over the load.
        """
        name, turn = self._line.name, self._loads.turn
        said: Preparing | None = None
        while True:
            said = self._report_preparing(job, said)
            with turn:
                turn.wait_for(partial(self._has_news, job, said))
                if self._is_overtaken() and not (may_adopt and self._adopt(job)):
                    self._loads.withdraw(job, name)
                    raise _OvertakenError
                if job.entry is not None:
                    return job.entry
                if job.failure is not None:
                    raise job.failure
                is_asked_to_leave = name in job.leaving
            if is_asked_to_leave:
                self._leave_for(job)

    def _has_news(self, job: LoadJob, said: Preparing | None) -> bool:
        is_told = job.is_preparing == (said is not None and said.on)
        return job.is_done or self._line.name in job.leaving or not is_told or self._is_overtaken()

    def _report_preparing(self, job: LoadJob, said: Preparing | None) -> Preparing | None:
        """Report a change in whether the assignment's model is being prepared; return the last report."""
        task = self._task
        if task is None or (said is None and not job.is_preparing):
            return said
        now = Preparing(task.assign.line, task.assign.change, job.is_preparing)
        if now != said:
            self._send(now)
        return now

    def _adopt(self, job: LoadJob) -> bool:
        """Replace the task by a newer assignment of the same model, which keeps the load; the caller holds `turn`.

        Returns False where no such assignment waits.
        """
        newer = self._pending
        if newer is None or self._thread.is_stopping or newer.assign.model != job.version or self._task is None:
            return False
        self._superseded(self._task)
        self._task, self._pending = newer, None
        job.join(self._line.name, is_ready=newer.assign.keeps_ready)
        return True

    def _leave_for(self, job: LoadJob) -> None:
        task = self._task
        if task is not None and self._line.active is not None:
            self._send(Breaking(task.assign.line, task.assign.change))
        left = self._line.deactivate()
        if left is not None:
            self._fallback = left.version
        with self._loads.turn:
            if not self._is_overtaken():  # otherwise nothing is evicted for a load that this line gives up
                job.leaving.discard(self._line.name)
                self._loads.turn.notify_all()

    def _is_overtaken(self) -> bool:
        return self._thread.is_stopping or self._pending is not None

    def _failed(self, failure: Failure) -> None:
        task, fallback = self._task, self._fallback
        assert task is not None
        if fallback is None or self._line.active is not None:
            self._tell_failed(task, failure.reason, str(failure))
            return
        try:
            self._restore(fallback, lambda: self._tell_failed(task, failure.reason, str(failure)))
        except _OvertakenError:
            self._tell_failed(task, failure.reason, str(failure))
        except (ModelError, OutOfMemoryError) as error:
            _LOG.exception("event=not_restored line=%s model=%s", self._line.name, fallback.reference)
            self._tell_failed(task, failure.reason, f"{failure}; {fallback.reference} does not come back: {error}")

    def _restore(self, fallback: ModelVersion, announce: Callable[[], None]) -> None:
        """Restore the model that was deactivated to make room for a model whose load then failed."""
        found = self._loads.obtain(fallback, self._line.name, is_ready=False)
        entry = self._wait_for(found, may_adopt=False) if isinstance(found, LoadJob) else found
        self._line.flip(entry, announce)
        self._fallback = None

    def _superseded(self, task: _Task) -> None:
        self._tell_failed(task, "superseded", "a newer assignment of the line overtook it")

    def _tell_failed(self, task: _Task, reason: Reason, detail: str) -> None:
        assign, active = task.assign, self._line.active_reference
        self._send(SwapFailed(assign.line, assign.change, assign.model.reference, active, reason, detail))
