"""A load that lines wait for or have announced, as the lines and the loader see it."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from agent.inference.backends import Model
from agent.inference.memory.cache import Entry
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

Failure = ModelError | OutOfMemoryError


@dataclass(frozen=True)
class LoadTimes:
    """What a load took, in ms: checking, reading and compiling; warming up and proving."""

    load_ms: float = 0.0
    warmup_ms: float = 0.0


@dataclass(eq=False)
class LoadJob:
    """One model on its way in. Every field is guarded by the loader's `turn`.

    `interested` lines wait for it, some of which are `ready` meanwhile. `announced` ones want it kept until a moment
    (monotonic, s). Without any it is dropped at its next step. `leaving` lines are asked to take their active model
    off, to make room. `is_abandoned`: its thread hangs, and another one took over; `let_go` ends its use of what the
    cores have to spare. `asked_of` are the lines that could have left when it was refused. `is_preparing`: its
    checkpoint is being prepared, once, before it is loaded.
    """

    version: ModelVersion
    interested: set[str] = field(default_factory=set)
    ready: set[str] = field(default_factory=set)
    announced: dict[str, float] = field(default_factory=dict)
    leaving: set[str] = field(default_factory=set)
    asked_of: frozenset[str] = frozenset()
    started_ns: int = 0
    times: LoadTimes = LoadTimes()
    entry: Entry[Model] | None = None
    failure: Failure | None = None
    is_abandoned: bool = False
    is_preparing: bool = False
    was_prepared: bool = False
    let_go: Callable[[], None] = lambda: None

    def join(self, line: str, *, is_ready: bool) -> None:
        """Have `line` wait for it; `is_ready`: what serves it meanwhile is right for its product."""
        self.interested.add(line)
        self.ready.discard(line)
        if is_ready:
            self.ready.add(line)

    def leave(self, line: str) -> None:
        """End a line's interest."""
        for lines in (self.interested, self.ready, self.leaving):
            lines.discard(line)

    @property
    def unready(self) -> set[str]:
        """The lines that have nothing right for their product until it is there."""
        return self.interested - self.ready

    @property
    def is_done(self) -> bool:
        """Say whether `entry` or `failure` tells how it went."""
        return self.entry is not None or self.failure is not None

    @property
    def is_wanted(self) -> bool:
        """Say whether somebody waits for it, or has announced it for a time that is not over."""
        return bool(self.interested or self.reservations())

    def reservations(self) -> dict[str, float]:
        """Return who announced it for a time that is not over, with the end of each reservation."""
        now_s = time.monotonic()
        return {line: until_s for line, until_s in self.announced.items() if until_s > now_s} if self.announced else {}


class DroppedError(ModelError):
    """Nobody waits for this load any more; never leaves the loader."""

    def __init__(self, job: LoadJob) -> None:
        super().__init__("superseded", f"{job.version.reference}: nobody waits for it any more")
