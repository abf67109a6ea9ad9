"""A load that lines wait for, as the lines and the loader see it."""

from dataclasses import dataclass, field

from agent.inference.backends import Model
from agent.inference.cache import Entry
from agent.messages.errors import ModelError, OutOfMemoryError
from agent.messages.references import ModelVersion

Failure = ModelError | OutOfMemoryError


@dataclass(frozen=True)
class LoadTimes:
    """What a load took, in ms: checking, reading and compiling; warming up and proving."""

    load_ms: float = 0.0
    warmup_ms: float = 0.0


@dataclass(eq=False)
class Job:
    """One model on its way in. Every field is guarded by the loader's `turn`.

    `interested` lines wait for it; without any it is dropped at its next step. `leaving` lines are asked to take their
    active model off, to make room. `is_abandoned`: its thread hangs, and another one took over.
    """

    version: ModelVersion
    interested: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    started_ns: int = 0
    times: LoadTimes = LoadTimes()
    entry: Entry[Model] | None = None
    failure: Failure | None = None
    is_abandoned: bool = False

    @property
    def is_done(self) -> bool:
        """Say whether `entry` or `failure` tells how it went."""
        return self.entry is not None or self.failure is not None


class DroppedError(ModelError):
    """Nobody waits for this load any more; never leaves the loader."""

    def __init__(self, job: Job) -> None:
        super().__init__("superseded", f"{job.version.reference}: nobody waits for it any more")
