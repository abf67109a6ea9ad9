"""State of one load: the lines that wait for it, its progress and its result."""

import threading
import time
from dataclasses import dataclass, field

from agent.inference.backends import Model
from agent.inference.memory.cache import Entry
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
    """Lines that announced the model, with the end of each announcement (monotonic, s)."""
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
    is_preparing: bool = False
    """The model's checkpoint is being prepared before the load."""
    was_prepared: bool = False
    """The model's checkpoint was prepared once, which is not repeated."""

    def join(self, line: str, *, is_ready: bool) -> None:
        """Add `line` to the waiting lines; the caller holds `turn`.

        `is_ready`: the line's present model is right for its product.
        """
        self.interested.add(line)
        self.ready.discard(line)
        if is_ready:
            self.ready.add(line)

    def leave(self, line: str) -> None:
        """Remove `line` from the waiting lines; the caller holds `turn`."""
        for lines in (self.interested, self.ready, self.leaving):
            lines.discard(line)

    @property
    def unready(self) -> set[str]:
        """Waiting lines whose present model is wrong for their product, or that have none."""
        return self.interested - self.ready

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
        """Return the announcements that have not ended, by line."""
        now_s = time.monotonic()
        return {line: until_s for line, until_s in self.announced.items() if until_s > now_s}

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


class DroppedError(ModelError):
    """Nobody wants this load any more; handled within this package."""

    def __init__(self, job: LoadJob) -> None:
        super().__init__("superseded", f"{job.version.reference}: nobody waits for it any more")
