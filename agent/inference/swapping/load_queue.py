"""The queue of loads: one at a time, in the background."""

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from agent.inference.backends import FellBackError, Model
from agent.inference.memory.admission import AdmissionController, NoRoomError, WouldBreakError
from agent.inference.memory.cache import Cache, Entry
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.scheduling import load_priority
from agent.inference.scheduling.idle_cpu import INTERVAL_S, IdleCpuSampler
from agent.inference.swapping.budget_share import BudgetShare
from agent.inference.swapping.likely_models import LikelyModels
from agent.inference.swapping.load_job import DroppedError, Failure, LoadJob, NoArtifactError
from agent.inference.swapping.model_loading import ModelLoader
from agent.inference.swapping.retries import is_loaded_without, is_to_be_prepared, is_worth_a_retry
from agent.inference.swapping.turn_thread import TurnThread
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.groups.memory_share import ShareRecalled
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)
_OVERTAKEN_S: Final = 10.0  # longest wait for the present step of an idle preload; a longer one is taken to hang
_PATIENT_SHARE: Final = 0.25  # of a load's timeout, in which an abandoned idle preload may still end


class LoadQueue:
    """Queue of the models that lines request or announce, which also evicts models beyond the budget.

    Single-flight: lines that ask for one model share one job. Jobs that a line waits for go before announced ones. The
    queue holds at most one job for each line and announcement. While it has none and cores are idle, it preloads likely
    models into free memory; each new job overtakes such a load, which is dropped at its next step.

    Threading: every method may be called from any thread. `turn` guards the jobs, and is never held across a load. Each
    load has its own thread, which is abandoned at the timeout; its bytes stay charged until the thread ends.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker's composition, spelt out
        self,
        cache: Cache[Model],
        model_loader: ModelLoader,
        admission: AdmissionController,
        artifacts: BackgroundBuilder,
        idle_cpu: IdleCpuSampler,
        timeout_s: float,
        warn: Callable[[str], None],
        share: BudgetShare,
    ) -> None:
        """Store the arguments; `timeout_s` limits one load, from the check of its file to the hand-over."""
        self._share: Final = share
        self.turn: Final = threading.Condition()
        self._cache: Final = cache
        self._model_loader: Final = model_loader
        self._admission: Final = admission
        self._artifacts: Final = artifacts
        self._idle_cpu: Final = idle_cpu
        self._timeout_s: Final = timeout_s
        self._warn: Final = warn
        self._waiting: Final[deque[LoadJob]] = deque()
        self._jobs: Final[dict[ModelVersion, LoadJob]] = {}
        self._likely: Final = LikelyModels(cache, warn)
        self._gone: set[ModelVersion] = set()
        """Models to unload as soon as nobody uses them."""
        self._reservations_changed = False
        self._to_release: Final[list[tuple[str, Callable[[str], None]]]] = []
        self._thread: Final = TurnThread("load queue", self.turn, self._step)

    def start(self) -> None:
        """Start the thread that loads."""
        self._thread.start()

    def stop(self) -> None:
        """Drop all jobs, and return when the running load has ended or its time is over."""
        with self.turn:
            for job in self._jobs.values():
                job.interested, job.announced = set(), {}
                job.is_likely, job.requests_until_s = False, 0.0
            self._likely.replace(())
        load_priority.restore_normal()  # because the present step of an idle preload would starve where lines serve
        self._thread.stop(self._timeout_s)

    def obtain(self, version: ModelVersion, line: str, *, is_ready: bool) -> Entry[Model] | LoadJob:
        """Claim a resident model for `line`, or return the job that loads it.

        `is_ready`: the line's present model is right for its product. Raises ModelError("load_timeout") where an
        earlier load of the model still hangs, and NoRoomError where the resident model is beyond what is guaranteed.
        """
        with self.turn:
            self._admission.require_guaranteed(version, {line})
            entry = self._cache.claim(version, line)
            if entry is not None:
                return entry
            job = self._find_or_enqueue(version)
            job.join(line, is_ready=is_ready)
            self._idle_cpu.forget()  # because the line's first frames come next, not what is done in idle time
            if not is_ready and job.needs_preparation:
                self._artifacts.hasten(version)
            if not is_ready and any(one.began_idle and one.is_running for one in self._jobs.values()):
                load_priority.restore_normal()  # because the line waits for the present step of an idle preload
            return job

    def announce(self, version: ModelVersion, line: str, until_s: float, artifact_until_s: float) -> LoadJob | None:
        """Reserve a resident model for `line` until `until_s` (monotonic) and return None; else return its load's job.

        It waits until `artifact_until_s` for its artifact. Raises as `obtain` does.
        """
        with self.turn:
            self._admission.require_guaranteed(version, ())
            if self._cache.reserve(version, line, until_s):
                self._reservations_changed = True
                self.turn.notify_all()
                return None
            job = self._find_or_enqueue(version)
            job.announce(line, until_s, artifact_until_s)
            if not job.is_patient and job.needs_preparation:
                self._artifacts.hasten(version)
            return job

    def keep_for_requests(self, version: ModelVersion, until_s: float) -> LoadJob | None:
        """Keep a resident model for requests until `until_s` (monotonic) and return None; else return its load's job.

        It gets free memory only, after all that lines want. Raises ModelError("load_timeout") where an old load hangs.
        """
        with self.turn:
            if self._cache.keep_for_requests(version, until_s):
                return None
            job = self._find_or_enqueue(version, is_of_line=False)
            job.requests_until_s = max(job.requests_until_s, until_s)
            return job

    def release(self, reference: str, told: Callable[[str], None]) -> None:
        """Unload a model that no line has, on the queue's thread; `told` gets why it stays, or "" once it is gone."""
        with self.turn:
            for job in [one for one in self._jobs.values() if one.version.reference == reference]:
                job.requests_until_s = 0.0
                self._drop_unwanted(job)
            self._to_release.append((reference, told))
            self.turn.notify_all()

    def preload(self, models: tuple[ModelVersion, ...], gone: tuple[ModelVersion, ...] = ()) -> None:
        """Replace the list of models to load in idle time; a running load of one that it lacks is dropped.

        `gone`: models that no line can ask for any more, which are unloaded once none uses them.
        """
        with self.turn:
            self._gone = (self._gone | set(gone)) - set(models)
            self._likely.replace(models)
            for job in self._jobs.values():
                job.is_likely = job.is_likely and self._likely.has(job.version)
            self.turn.notify_all()

    def has_preload(self) -> bool:
        """Return True while a likely model that may fit is not in memory, and would be preloaded on idle cores."""
        with self.turn:
            return not self._artifacts.is_preparing and self._likely.next() is not None

    def recall(self, recalled: ShareRecalled) -> None:
        """Lower the budget for another group; a running idle preload is dropped where models are to be evicted."""
        with self.turn:
            self._share.recall(recalled)
            if recalled.evict:
                for job in self._jobs.values():
                    job.is_likely = False
                self.turn.notify_all()

    def withdraw(self, job: LoadJob, line: str) -> None:
        """Remove a line from a job's waiting lines, at any stage of the load."""
        with self.turn:
            job.leave(line)
            self._drop_unwanted(job)
            if job.entry is not None:
                self._cache.unclaim(job.entry, line)

    def retract(self, job: LoadJob, line: str) -> None:
        """End a line's announcement, at any stage of the load."""
        with self.turn:
            job.announced.pop(line, None)
            self._drop_unwanted(job)
            if job.entry is not None:
                self._cache.unreserve(job.version, line)

    def waiting(self) -> dict[str, frozenset[str]]:
        """Return the lines that wait for each load that has not ended, by the model's reference."""
        with self.turn:
            return {job.version.reference: frozenset(job.interested) for job in self._jobs.values()}

    def used(self, version: ModelVersion, line: str) -> None:
        """Record for the eviction policy that `line` requests `version`, whether or not it gets it."""
        self._admission.used(version.reference, line)

    def settle(self) -> None:
        """Wake the queue's thread, which evicts standby models where a measured size exceeded the budget."""
        with self.turn:
            self.turn.notify_all()

    def _find_or_enqueue(self, version: ModelVersion, *, is_of_line: bool = True) -> LoadJob:
        job = self._jobs.get(version)
        if job is not None and job.is_abandoned:
            raise ModelError("load_timeout", f"{version.reference}: an earlier load of it still hangs")
        if job is None:
            for other in self._jobs.values():
                other.is_likely = False
                other.is_yielding = other.is_yielding or (is_of_line and other.is_running)
            job = self._jobs[version] = LoadJob(version, self.turn)
            self._waiting.append(job)
        self.turn.notify_all()
        return job

    def _drop_unwanted(self, job: LoadJob) -> None:
        if job.is_preparing and not job.is_wanted:
            job.end_unprepared(DroppedError(job))
            del self._jobs[job.version]
            self._artifacts.leave(job.version)
        elif job in self._waiting and not job.is_wanted:
            self._waiting.remove(job)
            del self._jobs[job.version]
        self.turn.notify_all()

    def _step(self) -> None:
        """Wait for work, evict models beyond the budget, and load the next model."""
        with self.turn:
            self._reservations_changed = False
            due_s = self._admission.due_s()
            self.turn.wait_for(self._has_work, INTERVAL_S if due_s is None else min(due_s, INTERVAL_S))
        self._idle_cpu.sample()
        if self._thread.is_stopping:
            return
        self._share.tidy(self._admission.tidy)
        self._unload_asked()
        job = self._next()
        if job is not None:
            with self._idle_cpu.paused():
                if job.is_requested:
                    self._idle_cpu.forget()
                self._run_load(job)

    def _unload_asked(self) -> None:
        with self.turn:
            self._gone &= self._cache.versions()
            gone = frozenset(self._gone)
            asked, self._to_release[:] = list(self._to_release), []
        self._admission.unload(gone)
        for reference, told in asked:
            told(self._admission.release(reference))

    def _has_work(self) -> bool:
        return (
            self._thread.is_stopping
            or self._reservations_changed
            or self._share.recalled is not None
            or bool(self._waiting or self._to_release)
            or self._admission.has_excess()
            or self._admission.can_unload(self._gone)
            or any(one.waits_in_vain for one in self._jobs.values())
            or self._next_preload() is not None
        )

    def _next(self) -> LoadJob | None:
        with self.turn:
            for one in (one for one in self._jobs.values() if one.waits_in_vain):
                one.end_preparing()
                self._artifacts.leave(one.version)
                self._waiting.append(one)
            if not self._waiting:
                return self._begin_preload()
            requested = next((one for one in self._waiting if one.is_requested), self._waiting[0])
            job = next((one for one in self._waiting if one.interested), requested)
            self._waiting.remove(job)
            job.is_running, job.began_idle = True, not job.is_requested
            return job

    def _begin_preload(self) -> LoadJob | None:
        version = self._next_preload()
        if version is None:
            return None
        self._jobs[version] = LoadJob(version, self.turn, began_idle=True, is_likely=True, is_running=True)
        return self._jobs[version]

    def _next_preload(self) -> ModelVersion | None:
        """Return the model to preload now; None while a load or a preparation is wanted or hangs, or cores are busy."""
        if self._jobs or self._artifacts.is_preparing or not self._idle_cpu.has_just_had(load_priority.ENOUGH_IDLE):
            return None
        return self._likely.next()

    def _run_load(self, job: LoadJob) -> None:
        """Run one load on its own thread; raise its priority after half of the timeout, abandon it at the timeout.

        An idle preload that takes so long is dropped instead, and one that was overtaken is abandoned early.
        """
        thread = threading.Thread(target=self._load, args=(job,), name="load", daemon=True)
        thread.start()
        with self.turn:
            if not self._wait_for(lambda: not job.is_running or job.is_overtaken, self._timeout_s / 2):
                self._hasten_or_drop(job)
            step_s = min(_OVERTAKEN_S, self._timeout_s / 2)
            if job.is_overtaken and not self._wait_for(lambda: not job.is_overtaken, step_s):
                self._abandon(job, f"its present step did not end within {step_s:g} s after an order overtook it")
                return
            if not self._wait_for(lambda: not job.is_running, self._timeout_s / 2):
                self._abandon(job, f"not loaded within {self._timeout_s:g} s")
                return
        thread.join()

    def _wait_for(self, is_over: Callable[[], bool], timeout_s: float) -> bool:
        return self._share.wait_for(self.turn, is_over, timeout_s, self._admission.tidy)

    def _hasten_or_drop(self, job: LoadJob) -> None:
        """Raise the priority of a load that would else time out; drop it where no line asks. Needs `turn` held."""
        job.is_late, job.is_likely = True, False
        if self._cache.serving():
            job.requests_until_s = 0.0  # because requests have no right to the processor where lines serve
        load_priority.restore_normal()

    def _abandon(self, job: LoadJob, why: str) -> None:
        detail = f"{job.version.reference}: {why}"
        self._warn(f"{detail}; its thread is left behind, and its bytes stay charged")
        job.is_abandoned = True
        job.failure = ModelError("load_timeout", detail)
        self.turn.notify_all()

    def _load(self, job: LoadJob) -> None:
        failure: Failure | None = ModelError("load_failed", f"{job.version.reference}: the loader crashed")
        try:
            self._load_in_room(job)
            failure = None
        except (ModelError, OutOfMemoryError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - a runtime may raise whatever it likes
            _LOG.exception("event=load_failed model=%s", job.version.reference)
            failure = ModelError("load_failed", f"{job.version.reference}: {error!r}")
        finally:  # because the lines that wait must hear of a crashed thread too
            with self.turn:
                self._close(job, failure)
                self.turn.notify_all()

    def _load_in_room(self, job: LoadJob) -> None:
        """Load the model of `job`; where an abandoned idle preload has its room, load once that has ended.

        A load that could have the room of a model that serves waits only a while for that of the preload.
        """
        has_left, limit_s = self._has_left_preload(), None
        job.may_break = not has_left
        try:
            self._model_loader.load_model(job)
        except WouldBreakError:
            limit_s = self._timeout_s * _PATIENT_SHARE
        except NoRoomError:
            if not has_left:
                raise
        else:
            return
        with self.turn:
            self.turn.wait_for(lambda: self._may_go_on(job), limit_s)
        job.may_break = True
        self._model_loader.load_model(job)

    def _may_go_on(self, job: LoadJob) -> bool:
        return job.is_abandoned or not job.is_wanted or not self._has_left_preload()

    def _has_left_preload(self) -> bool:
        """Return True while the thread of an abandoned idle preload still runs."""
        with self.turn:
            return any(one.began_idle and one.is_abandoned for one in self._jobs.values())

    def _close(self, job: LoadJob, failure: Failure | None) -> None:
        """End a job, or queue it again for its preparation or for lines that joined late; the caller holds `turn`."""
        job.is_running = job.is_yielding = False
        if self._likely.note(job, failure):
            self._artifacts.ask(job.version)
        if job.is_abandoned:
            del self._jobs[job.version]
        elif is_to_be_prepared(job, failure):
            job.begin_preparing(can_skip=isinstance(failure, NoArtifactError))
            is_patient = self._model_loader.is_patient(job)
            self._artifacts.prepare_first(job.version, partial(self._prepared, job), is_patient=is_patient)
        elif is_worth_a_retry(job, failure):
            if isinstance(failure, FellBackError):
                job.was_prepared = False  # because the CPU needs an artifact of its own
            self._waiting.append(job)
        else:
            job.failure = failure
            del self._jobs[job.version]

    def _prepared(self, job: LoadJob, failure: Failure | None) -> None:
        """Enqueue a job whose artifact was made, or fail it. Runs on the background builder's thread."""
        with self.turn:
            if not job.is_preparing:
                return  # because somebody needed the model before
            if (failure is None or is_loaded_without(job, failure)) and job.is_wanted:
                job.end_preparing()
                self._waiting.append(job)
            else:
                job.end_unprepared(failure or DroppedError(job))
                del self._jobs[job.version]
            self.turn.notify_all()
