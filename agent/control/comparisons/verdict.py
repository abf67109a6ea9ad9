"""Verdict on a candidate: whether its counts are, beyond chance, worse than the configured bounds allow."""

from collections.abc import Iterator
from dataclasses import dataclass

from agent.control.comparisons.statistics import mean_interval, wilson
from agent.control.comparisons.totals import objects_of
from agent.messages.canary import CanaryMode, CanaryReason, ClassCounts, Counts
from agent.settings import CanarySettings

_SLOW_SHARE = 0.01
"""Share of a model's frames that are slower than its 99th percentile."""
_FAR_STEADIER = 0.5
"""Share of the stable model's unsteadiness below which it is no measure of a candidate."""
_PATIENCE = 2
"""Multiple of the least frames after which answers decide without the models' steadiness."""
_LEAST_UNSTEADY = 0.0005
"""Difference of unsteadiness that may be of rounding, as of another artifact of the same network."""
_FEW_LATE = 5
_LATE_SHARE = 0.05
"""Share of a candidate's frames that may come too late on a busy device."""


@dataclass(frozen=True)
class Verdict:
    """Reason and words for the end of a comparison; a promotion has no reason."""

    reason: CanaryReason | None
    detail: str


def verdict(
    counts: Counts, bounds: CanarySettings, mode: CanaryMode, *, a_person_decides: bool = False
) -> Verdict | None:
    """Return the first reason to give a candidate up; None while the counts allow none.

    Where `a_person_decides` in the end, what differs is not held against a candidate that is far steadier.
    """
    asked = counts.answered + counts.late
    if counts.late >= _FEW_LATE and wilson(counts.late, asked)[0] > _LATE_SHARE:
        return Verdict("latency", f"{counts.late} of {asked} frames came too late, and were the stable model's")
    found = _by_steadiness(counts, bounds)
    is_measure = not a_person_decides or _is_measure(counts, bounds)
    if found is None and is_measure and counts.frames >= bounds.least_frames:
        found = next(_by_answers(counts, bounds), None)
    return found or (_by_latency(counts, bounds) if mode == "canary" else None)


def _is_measure(counts: Counts, bounds: CanarySettings) -> bool:
    """Return False for a stable model that is far less steady, and until that can be known soon."""
    if counts.again < bounds.least_frames:
        return counts.frames >= _PATIENCE * bounds.least_frames  # because a frame without objects says nothing of it
    return _beyond(counts, _FAR_STEADIER)[1] >= 0


def _by_steadiness(counts: Counts, bounds: CanarySettings) -> Verdict | None:
    """Return the verdict on a candidate whose answers change more than the stable model's when a picture moves."""
    if counts.again < bounds.least_frames or _beyond(counts, 1 + bounds.unsteady)[0] <= _LEAST_UNSTEADY:
        return None
    stable, candidate = counts.stable_unsteady / counts.again, counts.candidate_unsteady / counts.again
    lost = f"its objects lose {candidate:.1%} of their overlap in {counts.again} frames moved by some pixels"
    return Verdict("unsteady", f"{lost}, {stable:.1%} of the stable model's; at most {bounds.unsteady:.0%} more may")


def _beyond(counts: Counts, factor: float) -> tuple[float, float]:
    """Return the interval of the mean by which the candidate is unsteadier than `factor` x the stable model."""
    total = counts.candidate_unsteady - factor * counts.stable_unsteady
    both = 2 * factor * counts.unsteady_products
    squares = counts.candidate_unsteady_squares - both + factor * factor * counts.stable_unsteady_squares
    return mean_interval(total, squares, counts.again)


def _by_answers(counts: Counts, bounds: CanarySettings) -> Iterator[Verdict]:
    """Yield what the compared answers have against the candidate.

    Objects are counted, and frames are the sample, because the objects of one frame are not independent. Sure objects
    that it misses and unsure ones that it adds count, because a better version differs, too, but the other way round.
    """
    objects = objects_of(counts)
    differing = counts.against / objects if objects else 0.0
    low, high = wilson(differing * counts.objects, counts.objects)
    if objects and low > bounds.disagreement:
        interval = f"{low:.1%} to {high:.1%} in {counts.objects} frames"
        shares = f"{differing:.1%} of {objects} objects speak against it ({interval})"
        yield Verdict("disagreement", f"{shares}; at most {bounds.disagreement:.1%} may")
    low, high = mean_interval(counts.score, counts.score_squares, counts.scored)
    if counts.scored >= bounds.least_frames and high < -bounds.score_drop:
        mean = counts.score / counts.scored
        scores = f"scores are {mean:+.3f} on average ({low:+.3f} to {high:+.3f} in {counts.scored} frames)"
        yield Verdict("scores", f"{scores}; they may drop by {bounds.score_drop:g}")
    for label, one in counts.classes.items():
        yield from _by_class(label, one, bounds)


def _by_class(label: str, one: ClassCounts, bounds: CanarySettings) -> Iterator[Verdict]:
    shifted = abs(one.more - one.fewer)
    low, high = wilson(shifted, one.frames)
    if one.frames >= bounds.least_frames and low > bounds.class_shift:
        side = "more" if one.more > one.fewer else "fewer"
        share = f"{shifted / one.frames:.1%} of {one.frames} frames ({low:.1%} to {high:.1%})"
        yield Verdict("class_rates", f"{side} {label} in {share}; at most {bounds.class_shift:.1%} may shift")


def _by_latency(counts: Counts, bounds: CanarySettings) -> Verdict | None:
    """Return the verdict on latency: far more frames than one in a hundred are beyond the stable model's p99.

    Only frames that the candidate answered count, because those compared in slack ran at a lower priority.
    """
    p99_ms, answered = counts.stable_ms.percentile(0.99), counts.candidate_ms.count
    if p99_ms is None or answered < bounds.least_frames or counts.stable_ms.count < bounds.least_frames:
        return None
    slow = counts.late + counts.candidate_ms.count_above(limit_ms := p99_ms * bounds.latency)
    low, _ = wilson(slow, answered + counts.late)
    if low <= _SLOW_SHARE:
        return None
    candidate_ms = counts.candidate_ms.percentile(0.99)
    figures = f"p99 {candidate_ms} ms, {p99_ms} ms of the stable model"
    return Verdict("latency", f"{slow} of {answered} frames took over {limit_ms:.1f} ms ({figures})")
