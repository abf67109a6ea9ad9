"""Published state of a line's comparison."""

import math
from typing import Final

import msgspec

from agent.control.actions import Action, PublishState
from agent.control.comparisons.comparison import Comparison
from agent.control.comparisons.statistics import wilson
from agent.control.comparisons.totals import objects_of
from agent.control.state import Line, State
from agent.messages.canary import Canary, CanaryClass, CanaryLatency, Counts, Histogram
from agent.messages.topics import of_line

_MOST_CLASSES: Final = 64
"""Classes in the payload, those found most often, so that any broker takes it."""


def said(state: State, line: Line, one: Comparison) -> Action:
    """Return the action that publishes a comparison."""
    return PublishState(of_line(line.id, "canary"), msgspec.json.encode(payload(state, line, one)))


def payload(state: State, line: Line, one: Comparison) -> Canary:
    """Return the payload of a comparison."""
    counts = one.counts
    agree, interval = agreement(counts)
    return Canary(
        line=line.id,
        candidate=one.candidate,
        stable=one.stable,
        mode=one.mode,
        share=one.share,
        stage=one.stage.value,
        frames=counts.frames,
        wanted_frames=one.frames,
        agree=agree,
        agree_interval=interval,
        missing=counts.missing,
        extra=counts.extra,
        score_delta=_mean(counts.score, counts.scored),
        latency_ms={"stable": _latency(counts.stable_ms), "candidate": _latency(counts.candidate_ms)},
        answered=counts.answered,
        seen=counts.seen,
        skipped=counts.skipped,
        late=counts.late,
        unsteady={
            "stable": _mean(counts.stable_unsteady, counts.again),
            "candidate": _mean(counts.candidate_unsteady, counts.again),
        },
        classes=_classes(counts),
        result=one.result,
        reason=one.end_reason,
        detail=one.end_detail if one.is_over else _awaited(state, one),
        promote=one.promote,
        since=one.since,
        ended_at=one.ended_at,
        boot=state.plant.boot,
        id=one.id,
    )


def _awaited(state: State, one: Comparison) -> str | None:
    """Return in words what keeps a comparison from its promotion by itself; None before it has its frames."""
    least, found = state.plant.canary.least_frames, one.counts.objects
    is_asked = one.promote == "ask" or not one.is_of_one_model
    if is_asked or one.counts.frames < one.frames or found >= least:
        return None
    return f"waits for objects: found in {found} of the {least} frames that a promotion by itself needs"


def agreement(counts: Counts) -> tuple[float | None, tuple[float, float] | None]:
    """Return the share of objects that both models found, and its interval; None before the first compared frame.

    Frames in which neither found anything agree.
    """
    if not counts.frames:
        return None, None
    objects = objects_of(counts)
    share = counts.agree / objects if objects else 1.0
    low, high = wilson(share * counts.frames, counts.frames)
    return _rounded(share), (_rounded(low), _rounded_up(high))


def numbers(counts: Counts) -> str:
    """Return in words what a comparison has found."""
    share, interval = agreement(counts)
    if share is None or interval is None:
        return "no frame was compared"
    low, high = interval
    scores = f", scores {delta:+.4f}" if (delta := _mean(counts.score, counts.scored)) is not None else ""
    late = f", {counts.late} late" if counts.late else ""
    return f"agreement {share:.4f} ({low:.4f} to {high:.4f} in {counts.frames} frames){scores}{late}"


def _rounded(share: float) -> float:
    """Return a share with four decimals, rounded down, so that only a whole one is 1."""
    return math.floor(share * 10_000) / 10_000


def _rounded_up(share: float) -> float:
    """Return the upper end of an interval with four decimals: rounded down, it might leave the share out."""
    return math.ceil(share * 10_000) / 10_000


def _latency(histogram: Histogram) -> CanaryLatency:
    return CanaryLatency(histogram.percentile(0.5), histogram.percentile(0.99))


def _mean(total: float, count: int) -> float | None:
    return round(total / count, 4) if count else None


def _classes(counts: Counts) -> dict[str, CanaryClass]:
    found = sorted(counts.classes.items(), key=lambda item: -(item[1].stable + item[1].candidate))
    return {
        label: CanaryClass(
            stable=one.stable,
            candidate=one.candidate,
            agree=one.agree,
            missing=one.stable - one.agree,
            extra=one.candidate - one.agree,
            score_delta=_mean(one.score, one.agree),
        )
        for label, one in found[:_MOST_CLASSES]
    }
