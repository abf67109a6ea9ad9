"""Builds artifacts: in the background for models loaded from their source, at once for awaited loads."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends import artifact_key, compute_now, is_checkpoint, takes_engine
from agent.inference.scheduling import load_priority
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.models.preparation import Outcome, Preparation, Request
from agent.power_mode import power_mode
from agent.processes.threads import RestartedThread

_LOG: Final = logging.getLogger(__name__)
_LIMIT: Final = 16  # a version beyond the bound is enqueued again at its next load
_QUIET_S: Final = 5.0
_BYTES_A_FILE_BYTE: Final = 8  # a compiler's largest memory for each byte of the file
_AGAIN_S: Final = 60.0  # a file that cannot be prepared is not tried with each repetition of a command
_AGAIN_TIMES: Final = 10
"""Multiple of its duration for which a timed-out build is refused, because all other builds waited for it."""
_EXPORT_BYTES: Final = 1 << 30  # memory of torch and of the trace of a network
_ENGINE_BYTES: Final = 3 << 29  # memory of TensorRT's builder, its context and the layers that it tries; not measured
_IDLE_S: Final = 120.0
"""Time for which the process of a patient load gets idle CPU time only, lest it starve for ever."""


_Ended = Callable[[ModelError | OutOfMemoryError | None], None]


class BuildHinderedError(OutOfMemoryError):
    """A preparation ended for lack of memory or disk, or was killed; a later one may succeed."""


class ArtifactDiskError(BuildHinderedError):
    """The cache folder cannot keep an artifact: its disk is full, or the folder is another user's."""


@dataclass(eq=False)
class _Task:
    """One preparation."""

    version: ModelVersion
    ended: _Ended | None = None
    """Callback of the load that waits for it; None: it runs in the background."""
    is_patient: bool = True
    """No line needs the model yet."""
    is_left: bool = False
    """The load that waited for it has left; its process goes on in the background, where another load may find it."""
    gave_way: bool = False
    """Its process was killed for one of more haste, so it is repeated."""

    @property
    def rank(self) -> int:
        """Order of preparations: a lower one goes first, and kills one of a higher rank that runs."""
        return 2 if self.ended is None else int(self.is_patient)


class BackgroundBuilder:
    """A thread of the worker that runs one preparation at a time, some seconds after the last load.

    A background one that fails is logged once for each model and costs nothing but speed, because the model serves from
    its source. `left_out` counts requests beyond the bound. Each preparation runs inside the context manager `during`.
    Those that a line waits for go first, then those of patient loads; they kill one of less haste, which is repeated.
    """

    def __init__(
        self,
        compute: str,
        cache_dir: Path,
        max_bytes: int,
        quiet_s: float = _QUIET_S,
        during: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self._compute: Final = compute
        self._artifacts: Final = ArtifactStore(cache_dir)
        self._cache_dir: Final = cache_dir
        self._max_bytes: Final = max_bytes
        self._quiet_s: Final = quiet_s
        self._during: Final = during
        self.left_out = 0
        self._wanted: Final[deque[_Task]] = deque()
        self._awaited: Final[list[_Task]] = []
        self._refused: Final[dict[ModelVersion, tuple[float, Outcome]]] = {}
        self._seen: Final[set[str]] = set()
        self._turn: Final = threading.Condition()
        self._asked_again = False
        self._stopping = False
        self._running: Preparation | None = None
        self._task: _Task | None = None
        """The task that the thread has taken, whether or not its process runs yet."""
        self._thread: Final = RestartedThread(self._run, "artifact-maker")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Kill the running preparation and end the thread."""
        with self._turn:
            self._stopping = True
            self._turn.notify_all()
            if self._running is not None:
                self._running.kill()
        self._thread.join()

    def ask(self, version: ModelVersion) -> None:
        """Enqueue `version`, unless it has no use for an artifact, or has one measured in this power mode.

        Returns at once, from any thread.
        """
        key = artifact_key(version, self._compute)
        if key is None or self._is_made(key):
            return
        with self._turn:
            self._asked_again = True
            if key in self._seen:
                return
            if len(self._wanted) >= _LIMIT:
                self.left_out += 1
                return
            self._seen.add(key)
            self._wanted.append(_Task(version))
            self._turn.notify_all()

    def _is_made(self, key: str) -> bool:
        found = self._artifacts.find(key)
        # An unmeasured one is left as it is, because its device was busy, and is so most of the time.
        return found is not None and (not found.profile.is_measured or found.profile.holds_in(power_mode()))

    @property
    def is_preparing(self) -> bool:
        """Return True while a preparation runs."""
        return self._running is not None

    def prepare_first(self, version: ModelVersion, ended: _Ended, *, is_patient: bool = False) -> None:
        """Prepare `version` before all in the background, then call `ended` with None or the error.

        `is_patient`: no line needs the model yet, so the process gets idle CPU time only, until that has lasted long.
        `ended` is called on the builder's thread, which then holds no lock. The queue needs no bound of its own,
        because each load waits for at most one preparation.
        """
        with self._turn:
            task = self._task
            if task is not None and task.version == version and task.is_left and not task.gave_way:
                task.ended, task.is_patient, task.is_left = ended, is_patient, False
                if self._running is not None and not is_patient:
                    self._running.hasten()
                return
            self._awaited.append(_Task(version, ended, is_patient))
            self._give_way()
            self._turn.notify_all()

    def hasten(self, version: ModelVersion) -> None:
        """Have the patient preparation of `version` go on as one that a line waits for. Returns at once."""
        with self._turn:
            for one in self._awaited:
                one.is_patient = one.is_patient and one.version != version
            task = self._task
            if task is not None and task.version == version and task.rank == 1:
                task.is_patient = False
                if self._running is not None:
                    self._running.hasten()
            else:
                self._give_way()

    def leave(self, version: ModelVersion) -> None:
        """Let no load wait for `version`: a running preparation goes on in the background, one that waits is dropped.

        Its `ended` is not called any more.
        """
        with self._turn:
            self._awaited[:] = [one for one in self._awaited if one.version != version]
            task = self._task
            if task is None or task.version != version or task.ended is None:
                return
            task.ended, task.is_left = None, True
            self._give_way()

    def _give_way(self) -> None:
        """Kill the running preparation where one of more haste waits; needs `_turn` held."""
        task, running = self._task, self._running
        if task is not None and running is not None and any(one.rank < task.rank for one in self._awaited):
            task.gave_way = True  # because haste that comes before the process is dead changes the ranks
            running.kill()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            until_s, outcome = self._refused.get(task.version, (0.0, None))
            if outcome is None or time.monotonic() > until_s:
                outcome = self._prepare(task)
            with self._turn:
                self._task = None
                ended = task.ended
            if ended is not None and outcome is not None:
                ended(_failure(task.version, outcome))

    def _prepare(self, task: _Task) -> Outcome | None:
        """Run a preparation; None where it was killed for another one, and waits again."""
        version, is_awaited = task.version, task.ended is not None
        if not _has_memory(version, self._compute):
            return Outcome("failed", "there is not the memory to prepare it")
        compute, folder = compute_now(version, self._compute), str(self._cache_dir.absolute())
        began_s = time.monotonic()
        with self._turn:
            idle_s = _IDLE_S if is_awaited and task.is_patient else 0.0
            request = Request(
                version,
                compute,
                folder,
                self._max_bytes,
                is_awaited=is_awaited,
                idle_s=idle_s,
                nice=load_priority.normal_nice(),  # because control may have lowered this process while it starts
            )
            self._running = running = Preparation(request, _LOG.debug)
            if self._stopping:
                running.kill()
            self._give_way()
        try:
            with self._during():
                outcome = running.run()
        except Exception as error:  # noqa: BLE001 - the thread must outlive whatever one preparation does
            _LOG.exception("event=prepare_crashed model=%s", version.reference)
            outcome = Outcome("failed", f"the worker failed: {error!r}")
        with self._turn:
            is_killed = task.gave_way and outcome.result == "failed" and outcome.reason is None
            self._running, task.gave_way = None, False
            task.is_left = task.is_left and not is_killed  # because its next process is one of the background
            if is_killed:
                if task.ended is not None:
                    self._awaited.insert(0, task)
                else:
                    self._wanted.appendleft(task)
                return None
        self._note(version, outcome, time.monotonic() - began_s)
        return outcome

    def _note(self, version: ModelVersion, outcome: Outcome, took_s: float) -> None:
        is_failure = outcome.result == "failed" and not self._stopping
        level, words = logging.WARNING if is_failure else logging.INFO, "event=prepared model=%s result=%s detail=%r"
        _LOG.log(level, words, version.reference, outcome.result, outcome.detail)
        self._refused.pop(version, None)
        if outcome.reason is not None:
            again_s = max(_AGAIN_S, _AGAIN_TIMES * took_s if outcome.reason == "load_timeout" else 0.0)
            self._refused[version] = (time.monotonic() + again_s, outcome)

    def _next(self) -> _Task | None:
        """Wait for a request and return it; a background request also waits for quiet. None once stopped."""
        with self._turn:
            self._turn.wait_for(lambda: self._stopping or self._wanted or self._awaited)
            self._wait_for_quiet()
            if self._stopping:
                return None
            if not self._awaited:
                task = self._wanted.popleft()
            else:
                task = min(self._awaited, key=lambda one: one.rank)
                self._awaited.remove(task)
            self._task = task  # with the removal, because haste looks for it in either place
            return task

    def _wait_for_quiet(self) -> None:
        """Wait until no load was requested for `quiet_s`, because models often load together; needs `_turn` held."""
        self._asked_again = True
        while self._asked_again and not self._stopping and not self._awaited:
            self._asked_again = False
            self._turn.wait_for(lambda: self._stopping or self._awaited, self._quiet_s)


def _failure(version: ModelVersion, outcome: Outcome) -> ModelError | OutOfMemoryError | None:
    if outcome.result != "failed":
        return None
    detail = f"{version.reference} cannot be prepared: {outcome.detail}"
    if outcome.reason is not None:
        return ModelError(outcome.reason, detail)
    return ArtifactDiskError(detail) if outcome.is_of_disk else BuildHinderedError(detail)


def _has_memory(version: ModelVersion, compute: str) -> bool:
    """Return True where the device has the free memory that a compiler needs; otherwise log it."""
    try:
        needed_bytes = Path(version.path).stat().st_size * _BYTES_A_FILE_BYTE
        needed_bytes += _EXPORT_BYTES if is_checkpoint(version) else 0
        needed_bytes += _ENGINE_BYTES if takes_engine(version, compute) else 0
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free_bytes = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return False
    if needed_bytes > free_bytes:
        _LOG.warning("event=prepare_left_out model=%s needs_mib=%d", version.reference, needed_bytes >> 20)
    return needed_bytes <= free_bytes
