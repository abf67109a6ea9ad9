"""State of one load: the lines that wait for it, its progress and its result."""

import threading
import time
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from agent.inference.backends import Model, NotPreparedError
from agent.inference.memory.cache import Entry
from agent.inference.scheduling import load_priority
from agent.inference.scheduling.load_priority import LoadPriority
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

Failure = ModelError | OutOfMemoryError


@dataclass(frozen=True)
class LoadTimes:
    """Durations of a load's parts."""

    load_ms: float = 0.0
    """Duration of verifying, reading and compiling."""
    warmup_ms: float = 0.0
    """Duration of warming up and of checking golden pictures."""


@dataclass(eq=False)
class LoadJob:
    """One model to load, with the lines that wait for it.

    Threading: the lock `turn` guards every field, and is notified of each change. Methods say whether they acquire it
    or need it held.
    """

    version: ModelVersion
    turn: threading.Condition
    """The load queue's condition."""
    interested: set[str] = field(default_factory=set)
    """Lines that wait for the model."""
    ready: set[str] = field(default_factory=set)
    """Lines of `interested` whose present model is right for their product."""
    began_idle: bool = False
    """The load was begun in idle time, when nobody had asked for the model."""
    is_likely: bool = False
    """The model is likely to be needed, which is enough to go on while nothing else is to be loaded."""
    requests_until_s: float = 0.0
    """Requests want the model until then (monotonic, s), after all that lines want."""
    is_yielding: bool = False
    """A line asked for another model: a load that only requests want is dropped at its next step, and queued again."""
    announced: dict[str, float] = field(default_factory=dict)
    """Lines that announced the model, with the end of each announcement (monotonic, s), `waited_s` subtracted."""
    artifact_until_s: float = 0.0
    """Until then (monotonic, s) the load waits for an artifact that it could do without."""
    leaving: set[str] = field(default_factory=set)
    """Lines that are asked to deactivate their model, to make room."""
    asked_of: frozenset[str] = frozenset()
    """Lines that were asked to make room at the last attempt."""
    times: LoadTimes = LoadTimes()
    entry: Entry[Model] | None = None
    """The loaded model's entry in the cache, claimed by all of `interested`; None until it is loaded."""
    failure: Failure | None = None
    may_break: bool = True
    """Lines may be asked to deactivate their model for the load."""
    is_running: bool = False
    """A thread is loading the model."""
    is_late: bool = False
    """Half of the load's timeout is over, so the load runs at normal priority."""
    is_abandoned: bool = False
    """The load has timed out, and its thread still hangs."""
    preparing_since_s: float | None = None
    """Time since which the model's artifact is being made (monotonic); None: it is not."""
    prepared_s: float = 0.0
    """Time that the making of its artifact took before."""
    can_skip: bool = False
    """The load could do without the artifact that is being made."""
    was_prepared: bool = False
    """The model's artifact was made or given up once, which is not repeated."""

    def join(self, line: str, *, is_ready: bool) -> None:
        """Add `line` to the waiting lines; the caller holds `turn`.

        `is_ready`: the line's present model is right for its product.
        """
        self.interested.add(line)
        self.ready.discard(line)
        if is_ready:
            self.ready.add(line)

    def announce(self, line: str, until_s: float, artifact_until_s: float) -> None:
        """Add the announcement of `line`, which ends at `until_s`; the caller holds `turn`.

        The load waits until `artifact_until_s` for its artifact, or for the shortest time that any line allows.
        """
        is_allowed_s = self.artifact_until_s if self.is_requested else artifact_until_s
        self.artifact_until_s = min(is_allowed_s, artifact_until_s)
        self.announced[line] = until_s - self.waited_s

    def leave(self, line: str) -> None:
        """Remove `line` from the waiting lines; the caller holds `turn`."""
        for lines in (self.interested, self.ready, self.leaving):
            lines.discard(line)

    @property
    def unready(self) -> set[str]:
        """Waiting lines whose present model is wrong for their product, or that have none."""
        return self.interested - self.ready

    @property
    def is_preparing(self) -> bool:
        """Return True while the model's artifact is being made before the load."""
        return self.preparing_since_s is not None

    @property
    def waited_s(self) -> float:
        """Time for which the load has waited for the model's artifact."""
        since_s = self.preparing_since_s
        return self.prepared_s + (time.monotonic() - since_s if since_s is not None else 0.0)

    @property
    def is_patient(self) -> bool:
        """Return True where nobody needs the model before its artifact is made."""
        return not self.interested and time.monotonic() < self.artifact_until_s

    @property
    def needs_preparation(self) -> bool:
        """Return True while an artifact is being made that the load cannot do without."""
        return self.is_preparing and not self.can_skip

    @property
    def waits_in_vain(self) -> bool:
        """Return True where the load waits for an artifact that it could do without, and somebody needs the model."""
        return self.is_preparing and self.can_skip and not self.is_patient

    def begin_preparing(self, *, can_skip: bool) -> None:
        """Note that the model's artifact is being made; the caller holds `turn`."""
        self.preparing_since_s, self.can_skip, self.was_prepared = time.monotonic(), can_skip, True

    def end_preparing(self) -> None:
        """Note that the load waits for no artifact any more; the caller holds `turn`."""
        self.prepared_s, self.preparing_since_s = self.waited_s, None

    def end_unprepared(self, failure: Failure) -> None:
        """End a load that waited for an artifact; the caller holds `turn`."""
        self.end_preparing()
        self.failure = failure

    def priority(self, idle_share: float, serving: AbstractSet[str]) -> LoadPriority:
        """Return the CPU priority of the next step while it competes with the lines in `serving`."""
        if self.is_late:
            return "normal"
        return load_priority.choose(idle_share, serving, self.unready) if self.is_requested else "idle"

    @property
    def is_done(self) -> bool:
        """Return True once `entry` or `failure` is set."""
        return self.entry is not None or self.failure is not None

    @property
    def is_wanted(self) -> bool:
        """Return True while the load should go on."""
        return self.is_requested or self.is_likely or (self.is_for_requests and not self.is_yielding)

    @property
    def is_requested(self) -> bool:
        """Return True while a line waits for the model, or an announcement has not ended."""
        return bool(self.interested or self.reservations())

    @property
    def is_for_requests(self) -> bool:
        """Return True while requests want the model."""
        return self.requests_until_s > time.monotonic()

    @property
    def is_overtaken(self) -> bool:
        """Return True where a load that was begun in idle time is no longer wanted."""
        return self.is_running and self.began_idle and not self.is_wanted

    def reservations(self) -> dict[str, float]:
        """Return the ends of the announcements that have not ended (monotonic, s), by line."""
        now_s, waited_s = time.monotonic(), self.waited_s
        return {line: end_s + waited_s for line, end_s in self.announced.items() if end_s + waited_s > now_s}

    def require_wanted(self) -> frozenset[str]:
        """Return the lines that wait for the model; acquires `turn`.

        Raises DroppedError where the model is not wanted any more, and after a timeout.
        """
        with self.turn:
            if self.is_abandoned or not self.is_wanted:
                raise DroppedError(self)
            self.asked_of = frozenset(self.interested)
            return self.asked_of

    def has_been_requested(self) -> bool:
        """Return `is_requested`; acquires `turn`."""
        with self.turn:
            return self.is_requested

    def ask_to_leave(self, lines: set[str]) -> None:
        """Ask waiting lines to deactivate their models, and wait until they have done so; acquires `turn`."""
        with self.turn:
            self.leaving |= lines & self.interested
            self.turn.notify_all()
            self.turn.wait_for(lambda: self.is_abandoned or not self.leaving)


class NoArtifactError(NotPreparedError):
    """A model that nobody needs yet has no artifact; it can be loaded without one. Handled within this package."""


class DroppedError(ModelError):
    """Nobody wants this load any more; handled within this package."""

    def __init__(self, job: LoadJob) -> None:
        super().__init__("superseded", f"{job.version.reference}: nobody waits for it any more")
