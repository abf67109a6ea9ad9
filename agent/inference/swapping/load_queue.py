"""Bring models in, one at a time, in the background: make room, load, hand over. And release them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from agent.inference.backends import Model, NotPreparedError
from agent.inference.memory.admission import AdmissionController, LoadRequest, NoRoomError
from agent.inference.memory.cache import Cache, Entry
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.scheduling.idle_cpu import IdleCpuSampler
from agent.inference.scheduling.load_priority import LoadPriorityMonitor, first_priority
from agent.inference.scheduling.thread_priority import LoadPriority
from agent.inference.swapping.load_job import DroppedError, Failure, LoadJob
from agent.inference.swapping.model_loading import LoadedModel, ModelLoader, VerifiedFile
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_LOOK_S: Final = 0.1


class LoadQueue:
    """One thread that loads and releases; lines obtain and wait, or announce. Owner: the worker.

    Single-flight: lines that ask for one model share one job. A job that a line waits for goes before all that are only
    announced. A job whose time is over is abandoned with its thread, its bytes stay charged until that thread comes
    back, and another thread goes on with the queue, which holds one job for each line and announcement at most. `turn`
    guards the jobs; whoever waits for a line's work waits on it. No lock is held across a load. A checkpoint without an
    artifact is prepared first, by the maker's thread, while other models are loaded.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker's composition, spelt out
        self,
        cache: Cache[Model],
        intake: ModelLoader,
        room: AdmissionController,
        spare: IdleCpuSampler,
        artifacts: BackgroundBuilder,
        timeout_s: float,
        warn: Callable[[str], None],
    ) -> None:
        """Store; `timeout_s` is for one load, from its file's check to its proof."""
        self.turn: Final = threading.Condition()
        self._cache: Final = cache
        self._intake: Final = intake
        self._room: Final = room
        self._spare: Final = spare
        self._artifacts: Final = artifacts
        self._timeout_s: Final = timeout_s
        self._warn: Final = warn
        self._waiting: Final[deque[LoadJob]] = deque()
        self._jobs: Final[dict[ModelVersion, LoadJob]] = {}
        self._current: LoadJob | None = None
        self._patience = LoadPriorityMonitor(timeout_s)
        self._ends_changed = False  # of a reservation: what is to be waited for is another moment now
        self._stopping = False
        self._thread = self._new_thread()

    def start(self) -> None:
        """Begin to serve requests."""
        self._thread.start()

    def stop(self) -> None:
        """End after the job in hand, or leave it behind when its time is over."""
        with self.turn:
            self._stopping = True
            self.turn.notify_all()
        self._thread.join(self._timeout_s)

    def obtain(self, version: ModelVersion, line: str, *, is_ready: bool) -> Entry[Model] | LoadJob:
        """Claim a resident model, or ask for one that is not, or join its load: in one step.

        `is_ready`: what serves the line while it waits is right for its product.

        Raises ModelError("load_timeout") where an earlier load of it still hangs.
        """
        with self.turn:
            entry = self._cache.claim(version, line)
            if entry is not None:
                return entry
            job = self._join(version)
            job.join(line, is_ready=is_ready)
            return job

    def announce(self, version: ModelVersion, line: str, until_s: float) -> LoadJob | None:
        """Reserve a resident model for `line` until `until_s` (monotonic), or ask for one that is not; None: it is.

        Raises ModelError("load_timeout") where an earlier load of it still hangs.
        """
        with self.turn:
            if self._cache.reserve(version, line, until_s):
                self._ends_changed = True
                self.turn.notify_all()
                return None
            job = self._join(version)
            job.announced[line] = until_s
            return job

    def withdraw(self, job: LoadJob, line: str) -> None:
        """End a line's interest in a job, however far it is."""
        with self.turn:
            job.leave(line)
            self._forget_unwanted(job)
            if job.entry is not None:
                self._cache.unclaim(job.entry, line)
            self.turn.notify_all()

    def retract(self, job: LoadJob, line: str) -> None:
        """Take back a line's announcement, however far it is."""
        with self.turn:
            job.announced.pop(line, None)
            self._forget_unwanted(job)
            if job.entry is not None:
                self._cache.unreserve(job.version, line)
            self.turn.notify_all()

    def wait(self, is_over: Callable[[], bool]) -> None:
        """Wait a moment, or until `is_over`, asked with `turn` held; look after the job in hand. Needs `turn` held."""
        self.turn.wait_for(is_over, _LOOK_S)
        job = self._current
        if job is None:
            return
        age_s = (time.monotonic_ns() - job.started_ns) / 1e9
        if age_s > self._timeout_s:
            self._abandon(job)
        else:
            is_own = self._cache.serving() <= job.unready
            self._patience.look(age_s, is_awaited=bool(job.interested), is_own=is_own)

    def used(self, version: ModelVersion, line: str) -> None:
        """Note that `line` changes over to `version`, whatever comes of it: what is evicted is decided by that."""
        self._room.used(version.reference, line)

    def settle(self) -> None:
        """Have standby models evicted until the budget holds, where measuring brought it over."""
        with self.turn:
            self.turn.notify_all()

    def _new_thread(self) -> threading.Thread:
        return RestartedThread(self._run, "loader")

    def _join(self, version: ModelVersion) -> LoadJob:
        job = self._jobs.get(version)
        if job is not None and job.is_abandoned:
            raise ModelError("load_timeout", f"{version.reference}: an earlier load of it still hangs")
        if job is None:
            job = self._jobs[version] = LoadJob(version)
            self._waiting.append(job)
        self.turn.notify_all()
        return job

    def _forget_unwanted(self, job: LoadJob) -> None:
        if job in self._waiting and not job.is_wanted:
            self._waiting.remove(job)
            del self._jobs[job.version]

    def _abandon(self, job: LoadJob) -> None:
        detail = f"{job.version.reference}: not loaded within {self._timeout_s:g} s"
        self._warn(f"{detail}; its thread is left behind, and its bytes stay charged")
        job.is_abandoned = True
        job.failure = ModelError("load_timeout", detail)
        job.let_go()
        self._current = None
        self._thread = self._new_thread()
        self._thread.start()
        self.turn.notify_all()

    def _run(self) -> None:
        while self._wait_for_work():
            self._room.tidy()
            job = self._next()
            if job is None:
                continue
            self._perform(job)
            if job.is_abandoned:
                return

    def _wait_for_work(self) -> bool:
        with self.turn:
            self._ends_changed = False
            self.turn.wait_for(self._has_work, self._room.due_s())
            return not self._stopping

    def _has_work(self) -> bool:
        return self._stopping or self._ends_changed or bool(self._waiting) or self._room.has_excess()

    def _next(self) -> LoadJob | None:
        with self.turn:
            if not self._waiting:
                return None
            job = next((one for one in self._waiting if one.interested), self._waiting[0])
            self._waiting.remove(job)
            self._current = job
            job.started_ns = time.monotonic_ns()
            self._patience = LoadPriorityMonitor(self._timeout_s)
            return job

    def _perform(self, job: LoadJob) -> None:
        failure: Failure | None = ModelError("load_failed", f"{job.version.reference}: the loader crashed")
        try:
            with self._spare.in_use() as let_go:
                with self.turn:
                    job.let_go = let_go
                self._take_in(job)
            failure = None
        except (ModelError, OutOfMemoryError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the loader must outlive whatever a runtime does
            _LOG.exception("loading %s", job.version.reference)
            failure = ModelError("load_failed", f"{job.version.reference}: {error!r}")
        finally:  # also where the thread crashes: who waits for the job must hear of it
            with self.turn:
                self._close(job, failure)
                self.turn.notify_all()

    def _close(self, job: LoadJob, failure: Failure | None) -> None:
        if job.is_abandoned:
            del self._jobs[job.version]
            return
        self._current = None
        if isinstance(failure, NotPreparedError) and job.is_wanted and not (job.was_prepared or self._stopping):
            job.is_preparing = job.was_prepared = True
            self._artifacts.prepare_first(job.version, lambda failure: self._prepared(job, failure))
            return
        if self._is_to_be_tried_again(job, failure):
            self._waiting.append(job)
            return
        job.failure = failure
        del self._jobs[job.version]

    def _prepared(self, job: LoadJob, failure: Failure | None) -> None:
        """Go on with a job whose checkpoint has its artifact, or could not get one. On the maker's thread."""
        with self.turn:
            job.is_preparing = False
            if failure is None and job.is_wanted:
                self._waiting.append(job)
            else:
                job.failure = failure or DroppedError(job)
                del self._jobs[job.version]
            self.turn.notify_all()

    def _is_to_be_tried_again(self, job: LoadJob, failure: Failure | None) -> bool:
        """Say whether somebody came for a job while it was being dropped, or who could make more room for it."""
        if self._stopping:
            return False
        if isinstance(failure, DroppedError):
            return job.is_wanted
        return isinstance(failure, NoRoomError) and not job.interested <= job.asked_of

    def _take_in(self, job: LoadJob) -> None:
        want = LoadRequest(job.version, lambda: self._require_wanted(job), lambda lines: self._ask_to_leave(job, lines))
        candidate = self._intake.check(job.version, self._rung(job))
        entry = self._admit(want, candidate)
        arrival = self._bring(job, candidate, entry)
        try:
            self._room.require_fit(want, entry)
            self._hand_over(job, arrival)
        except BaseException:
            self._intake.undo(entry, arrival.model, arrival.before_bytes)
            raise

    def _admit(self, want: LoadRequest, candidate: VerifiedFile) -> Entry[Model]:
        try:
            return self._room.admit(want, candidate.predicted_bytes)
        except NoRoomError:
            self._intake.refused(candidate)
            raise

    def _bring(self, job: LoadJob, candidate: VerifiedFile, entry: Entry[Model]) -> LoadedModel:
        try:
            return self._intake.bring(candidate, entry, lambda: self._rung(job), lambda: self._require_wanted(job))
        except OutOfMemoryError:
            self._room.out_of_memory(job.version, entry)
            raise

    def _rung(self, job: LoadJob) -> LoadPriority:
        """Say where the next part of a load runs; raises DroppedError where nobody wants it."""
        with self.turn:
            self._require_wanted(job)
            rung = first_priority(self._spare.share, self._cache.serving(), job.unready)
            self._patience.begin(rung)
            return rung

    def _ask_to_leave(self, job: LoadJob, lines: set[str]) -> None:
        with self.turn:
            job.leaving |= lines & job.interested
            self.turn.notify_all()
            self.turn.wait_for(lambda: job.is_abandoned or not job.leaving)

    def _hand_over(self, job: LoadJob, arrival: LoadedModel) -> None:
        """Give a proven model to everybody who waits, in one step, and keep it for who announced it."""
        with self.turn:
            lines, times = self._require_wanted(job), arrival.times
            kept_for = {line: until_s for line, until_s in job.reservations().items() if line not in lines}
            self._cache.loaded(arrival.entry, arrival.model, lines, kept_for, times.load_ms + times.warmup_ms)
            job.times = times
            job.entry = arrival.entry

    def _require_wanted(self, job: LoadJob) -> frozenset[str]:
        """Return who waits for the job, or raise DroppedError where nobody does, or has announced it."""
        with self.turn:
            if job.is_abandoned or not job.is_wanted or self._stopping:
                raise DroppedError(job)
            job.asked_of = frozenset(job.interested)
            return job.asked_of
