"""Ratios of two contestants' rates, refused where they do not compute in the same precision."""

from dataclasses import dataclass, field

from agent.bench.figures import median


class UnlikeError(Exception):
    """Two contestants compute in different precisions, so that the ratio of their rates says nothing."""


@dataclass(frozen=True)
class Contestant:
    """Measured rates of one contestant by round, and the precision that its runtime reported."""

    name: str
    precision: str
    frames_per_s: list[float] = field(default_factory=list)


def ratio(ours: Contestant, theirs: Contestant) -> float:
    """Return the median over rounds of our rate over theirs. Raises UnlikeError for different precisions."""
    if ours.precision != theirs.precision:
        raise UnlikeError(f"{ours.name} computes in {ours.precision}, {theirs.name} in {theirs.precision}")
    return _ratio(ours, theirs)


def as_run(ours: Contestant, theirs: Contestant) -> dict[str, object]:
    """Return the same ratio of what a user gets, in whatever precision each computes, which stands beside it."""
    return {"ratio": _ratio(ours, theirs), "precision": {one.name: one.precision for one in (ours, theirs)}}


def _ratio(ours: Contestant, theirs: Contestant) -> float:
    return median(one / other for one, other in zip(ours.frames_per_s, theirs.frames_per_s, strict=True))
