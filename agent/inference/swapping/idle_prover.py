"""Repeats, in idle time, the checks that a load skipped because the model had passed them before."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Final

from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends import Model, artifact_key
from agent.inference.memory.cache import Cache, Entry
from agent.inference.scheduling import load_priority
from agent.inference.scheduling.idle_cpu import INTERVAL_S, IdleCpuSampler
from agent.inference.serving.slack import Gap, Slack
from agent.inference.swapping.file_check import FileCheck
from agent.inference.validation.golden import UnreadableError, proof_steps
from agent.inference.validation.proof_record import ProofRecord
from agent.messages.errors import ChangeoverError, ModelError
from agent.messages.references import ModelVersion
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_LIMIT: Final = 16
_MOST_HASHED: Final = 256
_RUNS: Final = 5
"""The shortest of so many pictures tells what the next one needs, because others may have delayed one."""
_PATIENCE_NS: Final = 500_000_000
"""Longest wait for a gap between frames, before it is looked again whether cores are idle."""
_LATE_EACH_NS: Final = 60_000_000_000
"""Time between two pictures that fit no gap, each of which makes a frame late."""


class IdleProver:
    """Thread that checks resident models, one picture at a time, while cores are idle and nothing is to be loaded.

    A picture is inferred between the lines' frames; where no gap is long enough, one a minute makes a frame late.

    A model that fails is taken out of use: its frames fail, no line can claim it, its artifact is removed, and `warn`
    is called. A model that no line claims or has reserved any more is skipped; its next load requests the checks again.
    Beyond 16 requests the oldest is dropped and counted in `left_out`.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker's composition, spelt out
        self,
        cache: Cache[Model],
        idle_cpu: IdleCpuSampler,
        slack: Slack,
        warn: Callable[[str], None],
        compute: str,
        cache_dir: Path,
    ) -> None:
        self._cache: Final = cache
        self._idle_cpu: Final = idle_cpu
        self._slack: Final = slack
        self._late_ns = -math.inf
        """Time at which a picture last began that fitted no gap."""
        self._warn: Final = warn
        self._compute: Final = compute
        self._artifacts: Final = ArtifactStore(cache_dir)
        self._proofs: Final = ProofRecord(cache_dir, compute)
        self.left_out = 0
        self._wanted: Final[deque[tuple[ModelVersion, str]]] = deque()
        self._hashed: Final[deque[ModelVersion]] = deque(maxlen=_MOST_HASHED)
        """Versions whose source was hashed by this process."""
        self._turn: Final = threading.Condition()
        self._stopping = False
        self._has_preload: Callable[[], bool] = lambda: False
        self._thread: Final = RestartedThread(self._run, "idle prover")

    def start(self, has_preload: Callable[[], bool]) -> None:
        """Start the thread; checks wait while `has_preload()` is True, because preloads go first in idle time."""
        self._has_preload = has_preload
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and all waits for gaps, and return once its current picture is done."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
        self._slack.stop()
        load_priority.restore_normal()  # because it would starve at that picture where others want the cores
        self._thread.join()

    def ask(self, version: ModelVersion, subject: str) -> None:
        """Enqueue a resident version to be checked, from any thread.

        `subject` is what `ProofRecord.subject` returned for its load.
        """
        with self._turn:
            if len(self._wanted) >= _LIMIT:
                self._wanted.popleft()
                self.left_out += 1
            self._wanted.append((version, subject))
            self._turn.notify_all()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            self._prove(*task)

    def _next(self) -> tuple[ModelVersion, str] | None:
        with self._turn:
            self._turn.wait_for(lambda: self._stopping or self._wanted)
            return None if self._stopping else self._wanted.popleft()

    def _prove(self, version: ModelVersion, subject: str) -> None:
        steps: Iterator[bool] | None = None
        infers: bool | None = False
        runs_ns: deque[int] = deque(maxlen=_RUNS)
        try:
            while infers is not None and self._wait_until_idle():
                gap = self._gap(version, runs_ns) if infers else nullcontext(enter_result=True)
                with gap as may_begin, self._cache.borrowed(version) as model:
                    if model is None:
                        return
                    steps = steps or self._steps(model, version)
                    infers = self._step(steps, version, runs_ns, infers=infers) if may_begin else infers
        except UnreadableError as error:
            _put_off(version, error)
        except ModelError as error:
            if self._proofs.subject(version) == subject:  # else the next load proves by what is there then
                self._disproved(version, error)
        except ChangeoverError as error:  # because a lack of memory says nothing of the answers
            _put_off(version, error)

    def _steps(self, model: Model, version: ModelVersion) -> Iterator[bool]:
        """Do what the load left out, in steps: hash the source, once for each version, and repeat the proof.

        Yields as `proof_steps` does.
        """
        if version not in self._hashed:
            yield False
            self._hash(version)
        yield from proof_steps(model, version)

    def _hash(self, version: ModelVersion) -> None:
        """Hash the files of the catalog; raises ModelError("hash_mismatch")."""
        try:
            FileCheck().require_right(version)  # without keys, because with them each worker's first load hashes it
            self._hashed.append(version)
        except ModelError as error:
            if error.reason != "file_missing":  # which says nothing of the artifact that serves
                raise

    def _step(self, steps: Iterator[bool], version: ModelVersion, runs_ns: deque[int], *, infers: bool) -> bool | None:
        """Take a step; return whether the next one infers a picture, None where none is left.

        At idle CPU priority, unless it infers with a model that a line uses, whose next frame would wait for it.
        """
        entry = self._cache.resident(version) if infers else None
        priority: load_priority.LoadPriority = "normal" if _is_used(entry) else "idle"
        began_ns = self._slack.clock_ns()
        with load_priority.lowered(priority, may_stay=False), self._idle_cpu.paused():
            if priority == "idle" and _is_used(entry):  # a line has claimed it since
                load_priority.restore_normal()
            following = next(steps, None)
        if infers:
            runs_ns.append(self._slack.clock_ns() - began_ns)
        return following

    @contextmanager
    def _gap(self, version: ModelVersion, runs_ns: deque[int]) -> Iterator[bool]:
        """Run the block within a gap between frames in which a picture may be inferred; yields False without one."""
        entry = self._cache.resident(version)
        model = entry.model if entry is not None else None
        needed_ns = min(runs_ns, default=model.places.usual_s * 1e9 if model is not None else 0.0)
        is_found = self._finds_gap(needed_ns)
        if (
            not is_found
            and self._slack.clock_ns() - self._late_ns >= _LATE_EACH_NS
            and self._finds_gap(needed_ns, may_delay=True)
        ):
            is_found, self._late_ns = True, self._slack.clock_ns()
        began_ns = self._slack.clock_ns()
        try:
            yield is_found
        finally:
            if is_found:
                self._slack.spent(began_ns)

    def _finds_gap(self, needed_ns: float, *, may_delay: bool = False) -> bool:
        deadline_ns = self._slack.clock_ns() + _PATIENCE_NS
        return self._slack.wait(needed_ns, deadline_ns, may_delay=may_delay) is Gap.FOUND

    def _wait_until_idle(self) -> bool:
        """Wait until cores are idle and nothing is to be loaded; return False once this or the slack is stopped."""
        while self._must_wait():  # outside of the lock, because `has_preload` takes another
            with self._turn:
                self._turn.wait_for(lambda: self._stopping, INTERVAL_S)
                if self._stopping:
                    break
        return not (self._stopping or self._slack.is_stopped)

    def _must_wait(self) -> bool:
        is_idle = not self._cache.is_loading and self._idle_cpu.has_just_had(load_priority.ENOUGH_IDLE)
        return not is_idle or self._has_preload()

    def _disproved(self, version: ModelVersion, error: ModelError) -> None:
        detail = f"{version.reference} was proven before, and no longer is: {error}"
        self._cache.condemn(version, detail)
        self._artifacts.discard(artifact_key(version, self._compute) or "", str(error))
        self._warn(detail)


def _is_used(entry: Entry[Model] | None) -> bool:
    """Return True for a model that serves, is about to, or answers frames of a comparison."""
    return entry is not None and bool(entry.claims)


def _put_off(version: ModelVersion, error: ChangeoverError) -> None:
    _LOG.info("event=proof_put_off model=%s detail=%r", version.reference, str(error))
