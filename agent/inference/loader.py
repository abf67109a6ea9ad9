"""Bring models in, one at a time, in the background: make room, load, hand over. And release them."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from agent.inference import priority
from agent.inference.backends import Model
from agent.inference.cache import Cache, Entry
from agent.inference.intake import Arrival, Intake
from agent.inference.jobs import DroppedError, Failure, Job
from agent.inference.release import Releaser
from agent.messages.errors import ChangeoverError, ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)
_PATIENCE_S: Final = 3.0  # at SCHED_IDLE a load beside a saturated line would never end
_LOOK_S: Final = 0.1


class Loader:
    """One thread that loads and releases; lines obtain and wait. Owner: the worker.

    Single-flight: lines that ask for one model share one job. A job whose time is over is abandoned with its thread,
    its bytes stay charged until that thread comes back, and another thread goes on with the queue, which holds one job
    for each line at most. `turn` guards the jobs; whoever waits for a line's work waits on it. No lock is held across
    a load.
    """

    def __init__(
        self,
        cache: Cache[Model],
        intake: Intake,
        releaser: Releaser,
        timeout_s: float,
        warn: Callable[[str], None],
    ) -> None:
        """Store; `timeout_s` is for one load, from its file's check to its proof."""
        self.turn: Final = threading.Condition()
        self._cache: Final = cache
        self._intake: Final = intake
        self._releaser: Final = releaser
        self._timeout_s: Final = timeout_s
        self._warn: Final = warn
        self._waiting: Final[deque[Job]] = deque()
        self._jobs: Final[dict[ModelVersion, Job]] = {}
        self._current: Job | None = None
        self._is_hurried = False
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

    def obtain(self, version: ModelVersion, line: str) -> Entry[Model] | Job:
        """Claim a resident model, or ask for one that is not, or join its load: in one step.

        Raises ModelError("load_timeout") where an earlier load of it still hangs.
        """
        with self.turn:
            entry = self._cache.claim(version, line)
            if entry is not None:
                return entry
            job = self._jobs.get(version)
            if job is not None and job.is_abandoned:
                raise ModelError("load_timeout", f"{version.reference}: an earlier load of it still hangs")
            if job is None:
                job = self._jobs[version] = Job(version)
                self._waiting.append(job)
            job.interested.add(line)
            self.turn.notify_all()
            return job

    def withdraw(self, job: Job, line: str) -> None:
        """End a line's interest in a job, however far it is."""
        with self.turn:
            job.interested.discard(line)
            job.leaving.discard(line)
            if job in self._waiting and not job.interested:
                self._waiting.remove(job)
                del self._jobs[job.version]
            if job.entry is not None:
                self._cache.unclaim(job.entry, line)
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
        elif age_s > _PATIENCE_S and not self._is_hurried and self._thread.native_id is not None:
            self._is_hurried = True
            priority.set_normal(self._thread.native_id)

    def settle(self) -> None:
        """Have standby models evicted until the budget holds, where measuring brought it over."""
        with self.turn:
            self.turn.notify_all()

    def _new_thread(self) -> threading.Thread:
        return threading.Thread(target=self._run, name="loader", daemon=True)

    def _abandon(self, job: Job) -> None:
        detail = f"{job.version.reference}: not loaded within {self._timeout_s:g} s"
        self._warn(f"{detail}; its thread is left behind, and its bytes stay charged")
        job.is_abandoned = True
        job.failure = ModelError("load_timeout", detail)
        self._current = None
        self._thread = self._new_thread()
        self._thread.start()
        self.turn.notify_all()

    def _run(self) -> None:
        while self._wait_for_work():
            self._evict_excess()
            job = self._next()
            if job is None:
                continue
            self._perform(job)
            if job.is_abandoned:
                return

    def _wait_for_work(self) -> bool:
        with self.turn:
            self.turn.wait_for(lambda: self._stopping or self._waiting or self._excess())
            return not self._stopping

    def _next(self) -> Job | None:
        with self.turn:
            if not self._waiting:
                return None
            job = self._current = self._waiting.popleft()
            job.started_ns = time.monotonic_ns()
            self._is_hurried = False
            return job

    def _perform(self, job: Job) -> None:
        failure: Failure | None = None
        try:
            self._take_in(job)
        except (ModelError, OutOfMemoryError) as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the loader must outlive whatever a runtime does
            _LOG.exception("loading %s", job.version.reference)
            failure = ModelError("load_failed", f"{job.version.reference}: {error!r}")
        with self.turn:
            self._close(job, failure)
            self.turn.notify_all()

    def _close(self, job: Job, failure: Failure | None) -> None:
        if job.is_abandoned:
            del self._jobs[job.version]
            return
        self._current = None
        if isinstance(failure, DroppedError) and job.interested and not self._stopping:
            self._waiting.append(job)  # somebody came back for it while it was being dropped
            return
        job.failure = failure
        del self._jobs[job.version]

    def _take_in(self, job: Job) -> None:
        candidate = self._intake.check(job.version)
        entry = self._admit(job, candidate.predicted_bytes)
        arrival = self._intake.bring(candidate, entry, lambda: self._require_wanted(job))
        try:
            self._require_fit(job)
            self._hand_over(job, arrival)
        except ChangeoverError:
            self._intake.undo(entry, arrival.model, arrival.before_bytes)
            raise

    def _admit(self, job: Job, needed_bytes: int) -> Entry[Model]:
        """Make room and charge the load, or raise OutOfMemoryError; nothing is released before it is known to help."""
        self._releaser.look_again()
        while True:
            leaving = self._require_wanted(job)
            entry = self._cache.reserve(job.version, needed_bytes)
            if entry is not None:
                return entry
            plan = self._cache.plan(needed_bytes, leaving)
            if plan is None:
                raise OutOfMemoryError(self._no_room(job, needed_bytes))
            if plan.leave:
                self._ask_to_leave(job, {line for entry in plan.leave for line in entry.claims})
            self._evict(*plan.leave, *plan.evict)

    def _ask_to_leave(self, job: Job, lines: set[str]) -> None:
        with self.turn:
            job.leaving |= lines & job.interested
            self.turn.notify_all()
            self.turn.wait_for(lambda: job.is_abandoned or not job.leaving)

    def _require_fit(self, job: Job) -> None:
        """Look again now that the model is measured: it may take more than was predicted.

        What its lines let go at the flip counts: until then the budget may be exceeded by one model.
        """
        self._evict_excess()
        if self._cache.plan(0, self._require_wanted(job)) is None:
            raise OutOfMemoryError(self._no_room(job, 0))

    def _hand_over(self, job: Job, arrival: Arrival) -> None:
        """Give a proven model to everybody who waits, in one step."""
        with self.turn:
            self._cache.loaded(arrival.entry, arrival.model, self._require_wanted(job))
            job.times = arrival.times
            job.entry = arrival.entry

    def _excess(self) -> tuple[Entry[Model], ...]:
        plan = self._cache.plan(0, ())
        return plan.evict if plan else ()

    def _evict_excess(self) -> None:
        self._evict(*self._excess())

    def _evict(self, *victims: Entry[Model]) -> None:
        for victim in victims:
            if self._releaser.release(victim):
                _LOG.info("evicted %s to make room", victim.version.reference)

    def _no_room(self, job: Job, needed_bytes: int) -> str:
        needed, used, budget = needed_bytes >> 10, self._cache.used_bytes >> 10, self._cache.budget_bytes >> 10
        return (
            f"{job.version.reference} needs {needed} KiB more beside {used} KiB that are taken, of a budget of "
            f"{budget} KiB, and what may be released is not enough"
        )

    def _require_wanted(self, job: Job) -> frozenset[str]:
        """Return who waits for the job, or raise DroppedError where nobody does."""
        with self.turn:
            if job.is_abandoned or not job.interested or self._stopping:
                raise DroppedError(job)
            return frozenset(job.interested)
