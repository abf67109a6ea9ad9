"""Plausibility of the counts of a comparison, which come from a process that runs models, or from a file."""

import math
from typing import Final

from agent.control.comparisons.totals import MOST_CLASSES
from agent.messages.canary import LAST_BUCKET, ClassCounts, Counts, Histogram

_MOST: Final = 1 << 53
_SUMS: Final = (
    *("score", "score_squares", "overlap", "stable_unsteady", "candidate_unsteady"),
    *("stable_unsteady_squares", "candidate_unsteady_squares", "unsteady_products"),
)


def oddity_of(counts: Counts) -> str | None:
    """Describe what is impossible in counts; None for possible ones."""
    if not _are_counts(counts):
        return f"counts of {counts.frames} frames"
    if len(counts.classes) > MOST_CLASSES or not all(map(_are_counts, counts.classes.values())):
        return f"counts of {len(counts.classes)} classes"
    return None if _is_histogram(counts.stable_ms) and _is_histogram(counts.candidate_ms) else "latencies"


def _are_counts(counts: Counts | ClassCounts) -> bool:
    """Return True where each whole number counts something, and each sum is finite."""
    numbers = {name: getattr(counts, name) for name in counts.__struct_fields__}
    whole = [value for name, value in numbers.items() if isinstance(value, int) and name not in _SUMS]
    sums = [numbers[name] for name in _SUMS if name in numbers]
    return all(0 <= one <= _MOST for one in whole) and all(math.isfinite(one) and abs(one) <= _MOST for one in sums)


def _is_histogram(one: Histogram) -> bool:
    return all(0 <= bucket <= LAST_BUCKET and 0 < count <= _MOST for bucket, count in one.buckets.items())
