"""Bring a line to the model that it was assigned: obtain it, flip, report. A failure keeps what served before."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory.cache import Entry
from agent.inference.serving.frame_loss import FrameLossMark
from agent.inference.serving.line_gate import ActiveModelGate
from agent.inference.swapping.load_job import Failure, LoadJob, LoadTimes
from agent.inference.swapping.load_queue import LoadQueue
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
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_NO_TIMES: Final = LoadTimes()


@dataclass(frozen=True)
class _Task:
    """An assignment, and where the line's streams stood when it arrived. `had_model`: something was serving then."""

    assign: Assign
    marks: dict[str, FrameLossMark]
    had_model: bool


class _OvertakenError(Exception):
    """A newer assignment waits, or the worker stops."""


class Swapper:
    """The thread of one line, the only one that changes its active model. Owner: the worker.

    The newest assignment wins: one that waits is answered as superseded when another comes, and one in progress as soon
    as it can be left. A load in progress is gone on with if the newer assignment wants the same model.
    """

    def __init__(self, line: ActiveModelGate[Model], loader: LoadQueue, send: Callable[[Message], None]) -> None:
        self._line: Final = line
        self._loader: Final = loader
        self._send: Final = send
        self._pending: _Task | None = None
        self._task: _Task | None = None
        self._newest_change: int | None = None
        self._fallback: ModelVersion | None = None
        self._stopping = False
        self._thread: Final = RestartedThread(self._run, f"swapper {line.name}")

    def start(self) -> None:
        """Begin to take assignments."""
        self._thread.start()

    def stop(self) -> None:
        """Leave what is in progress, and end. The line keeps its model."""
        with self._loader.turn:
            self._stopping = True
            self._loader.turn.notify_all()
        self._thread.join()

    def assign(self, assign: Assign) -> None:
        """Take an assignment, from any thread; returns at once."""
        line = self._line
        task = _Task(assign, line.mark(time.monotonic_ns()), line.has_served)
        with self._loader.turn:
            overtaken: _Task | None = task
            if self._newest_change is None or assign.change >= self._newest_change:
                overtaken, self._pending = self._pending, task
                self._newest_change = assign.change
            self._loader.turn.notify_all()
        if overtaken is not None:
            self._superseded(overtaken)

    def _run(self) -> None:
        while (task := self._next()) is not None:
            is_settled = False
            try:
                self._settle(task)
                is_settled = True
            except Exception:  # noqa: BLE001 - the line's loop must outlive whatever one swap does
                _LOG.exception("line %s: %s", self._line.name, task.assign.model.reference)
            finally:  # also where the thread crashes: control waits for an answer
                if not is_settled:
                    self._tell_failed(self._task or task, "load_failed", "the worker failed; see its log")

    def _settle(self, task: _Task) -> None:
        """Swap, or say why not."""
        try:
            self._swap(task)
        except _OvertakenError:
            if not self._stopping:
                self._superseded(self._task or task)
        except (ModelError, OutOfMemoryError) as error:
            self._failed(error)

    def _next(self) -> _Task | None:
        with self._loader.turn:
            self._loader.turn.wait_for(lambda: self._stopping or self._pending)
            self._task, self._pending = self._pending, None
            return None if self._stopping else self._task

    def _swap(self, task: _Task) -> None:
        model = task.assign.model
        active = self._line.active
        if active is not None and active.version == model:
            self._send(self._swapped(task, "resident", _NO_TIMES, frames_lost=0))
            return
        found = self._loader.obtain(model, self._line.name, is_ready=task.assign.keeps_ready)
        if isinstance(found, LoadJob):
            self._loader.used(model, self._line.name)  # what goes for it is chosen in the knowledge of it
            entry = self._wait_for(found, may_adopt=True)
            self._flip(entry, "cold", found.times)
        else:
            self._flip(found, "resident", _NO_TIMES)
            self._loader.used(model, self._line.name)

    def _flip(self, entry: Entry[Model], residency: Residency, times: LoadTimes) -> None:
        task = self._task  # the newest one, where it adopted the load
        assert task is not None

        def announce() -> None:
            lost = self._line.lost_since(task.marks) if task.had_model else 0
            self._send(self._swapped(task, residency, times, frames_lost=lost))

        self._line.flip(entry, announce)
        self._fallback = None
        self._loader.settle()

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
        """Return the job's entry, claimed. Raises what the load raised, or _OvertakenError: then nothing is claimed."""
        name, turn = self._line.name, self._loader.turn
        said: Preparing | None = None
        while True:
            said = self._say_preparing(job, said)
            with turn:
                self._loader.wait(lambda: job.is_done or name in job.leaving or self._is_overtaken())
                if self._is_overtaken() and not (may_adopt and self._adopt(job)):
                    self._loader.withdraw(job, name)
                    raise _OvertakenError
                if job.entry is not None:
                    return job.entry
                if job.failure is not None:
                    raise job.failure
                is_asked_to_leave = name in job.leaving
            if is_asked_to_leave:
                self._leave_for(job)

    def _say_preparing(self, job: LoadJob, said: Preparing | None) -> Preparing | None:
        """Tell control that the assignment's model is being prepared, or is not any more; return what was said last."""
        task = self._task
        if task is None or (said is None and not job.is_preparing):
            return said
        now = Preparing(task.assign.line, task.assign.change, job.is_preparing)
        if now != said:
            self._send(now)
        return now

    def _adopt(self, job: LoadJob) -> bool:
        """Let a newer assignment of the same model take over the load in progress. Needs `turn` held."""
        newer = self._pending
        if newer is None or self._stopping or newer.assign.model != job.version or self._task is None:
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
        with self._loader.turn:
            if not self._is_overtaken():  # else nothing is to go for a load that this line gives up
                job.leaving.discard(self._line.name)
                self._loader.turn.notify_all()

    def _is_overtaken(self) -> bool:
        return self._stopping or self._pending is not None

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
            _LOG.exception("line %s: %s does not come back", self._line.name, fallback.reference)
            self._tell_failed(task, failure.reason, f"{failure}; {fallback.reference} does not come back: {error}")

    def _restore(self, fallback: ModelVersion, announce: Callable[[], None]) -> None:
        """Bring back what served before it had to make room for a model that then failed."""
        found = self._loader.obtain(fallback, self._line.name, is_ready=False)
        entry = self._wait_for(found, may_adopt=False) if isinstance(found, LoadJob) else found
        self._line.flip(entry, announce)
        self._fallback = None

    def _superseded(self, task: _Task) -> None:
        self._tell_failed(task, "superseded", "a newer assignment of the line overtook it")

    def _tell_failed(self, task: _Task, reason: Reason, detail: str) -> None:
        assign, active = task.assign, self._line.active_reference
        self._send(SwapFailed(assign.line, assign.change, assign.model.reference, active, reason, detail))
