"""State of one line's comparison of two versions of a model."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from agent.messages.canary import CanaryMode, CanaryPromote, CanaryReason, CanaryResult, Counts
from agent.messages.references import ModelReference, ModelVersion

if TYPE_CHECKING:
    from agent.control.state import Command


class Stage(Enum):
    """Stage of a comparison; a lost worker or a restart returns it to WAITING."""

    WAITING = "waiting"
    """The line has no settled model, or no worker."""
    LOADING = "loading"
    """The worker loads and proves the candidate, beside what serves."""
    STARTING = "starting"
    """The worker was told to compare."""
    RUNNING = "running"
    """The candidate gets its share of the frames."""
    ENDED = "ended"


@dataclass
class Comparison:
    """A comparison of a candidate with the model that serves a line; `canary/steps.py` assigns it."""

    candidate: str
    """Full reference."""
    mode: CanaryMode = "shadow"
    share: float = 0.1
    frames: int = 2000
    """Compared frames that are enough to promote."""
    promote: CanaryPromote = "ask"
    product: str | None = None
    """The line's product at the start; another one ends the comparison."""
    stable: str | None = None
    """Full reference of the model that serves the line."""
    id: str | None = None
    stage: Stage = Stage.WAITING
    number: int = 0
    """Number of the candidate's preload, and of the comparison in the worker."""
    version: ModelVersion | None = None
    """The candidate as it was last to be loaded, which the catalog may lack by now."""
    result: CanaryResult = "running"
    end_reason: CanaryReason | None = None
    end_detail: str | None = None
    since: str = ""
    ended_at: str | None = None
    counts: Counts = field(default_factory=Counts)
    commands: "list[Command]" = field(default_factory=list)
    """Commands that wait for the comparison to run."""
    workers_lost: int = 0
    """Workers lost in a row with the candidate in them, without enough compared frames in between."""
    frames_at_loss: int = 0
    """Compared frames at the last loss of a worker."""
    is_interrupted: bool = False
    """The line has left the stable version for a while, by a change of product or of its model."""
    is_seen: bool = False
    """Somebody has seen its rollback, so that the alert is off."""
    tell_at_s: float = 0.0
    """Time of the next publication (monotonic)."""

    @property
    def is_over(self) -> bool:
        """True once it has ended."""
        return self.stage is Stage.ENDED

    @property
    def answers(self) -> bool:
        """True while the candidate may answer frames of the line."""
        return self.mode == "canary" and self.stage in {Stage.STARTING, Stage.RUNNING}

    @property
    def is_of_one_model(self) -> bool:
        """True where candidate and stable model are versions of one model and variant."""
        return self.stable is not None and is_of_one_model(self.candidate, self.stable)


def is_of_one_model(one: str, other: str) -> bool:
    """Return True for two full references of the same model and variant."""
    first, second = ModelReference.parse(one), ModelReference.parse(other)
    return first is not None and second is not None and (first.name, first.variant) == (second.name, second.variant)
