"""The part of a comparison that is persisted over a restart."""

from typing import Any

import msgspec

from agent.control.comparisons.comparison import Comparison, Stage
from agent.control.state import Command
from agent.messages.canary import CanaryMode, CanaryPromote, CanaryReason, CanaryResult, Counts


class KeptComparison(msgspec.Struct, frozen=True):
    """The running or last comparison of a line."""

    candidate: str
    mode: CanaryMode
    share: float
    frames: int
    promote: CanaryPromote
    product: str | None
    stable: str | None
    id: str | None
    is_over: bool
    result: CanaryResult
    end_reason: CanaryReason | None
    end_detail: str | None
    since: str
    ended_at: str | None
    counts: Counts
    commands: tuple[Command, ...]
    workers_lost: int
    frames_at_loss: int
    is_seen: bool = False
    is_interrupted: bool = False


def take(one: Comparison | None) -> KeptComparison | None:
    """Return what is to be kept."""
    if one is None:
        return None
    fields: dict[str, Any] = {name: getattr(one, name) for name in KeptComparison.__struct_fields__}
    return KeptComparison(**fields | {"commands": tuple(one.commands)})


def restored(kept: KeptComparison | None) -> Comparison | None:
    """Return a comparison from before a restart; one that ran goes on when a worker and its model are there again."""
    if kept is None:
        return None
    fields = {name: getattr(kept, name) for name in KeptComparison.__struct_fields__ if name != "is_over"}
    stage = Stage.ENDED if kept.is_over else Stage.WAITING
    return Comparison(**fields | {"commands": list(kept.commands), "stage": stage})
