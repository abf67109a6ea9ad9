"""Sums of the counts of comparisons."""

from msgspec.structs import asdict

from agent.messages.canary import ClassCounts, Counts, Histogram

MOST_CLASSES = 256
"""Classes counted apart; the objects of further ones count in the totals alone."""


def added(one: Counts, other: Counts) -> Counts:
    """Return the counts of two spans together."""
    numbers = {
        name: getattr(one, name) + value for name, value in asdict(other).items() if isinstance(value, (int, float))
    }
    classes = dict(one.classes)
    for label, counts in other.classes.items():
        if label in classes or len(classes) < MOST_CLASSES:
            classes[label] = _added_class(classes.get(label, ClassCounts()), counts)
    stable_ms, candidate_ms = (_joined(*pair) for pair in _latencies(one, other))
    return Counts(**numbers, classes=classes, stable_ms=stable_ms, candidate_ms=candidate_ms)


def objects_of(counts: Counts) -> int:
    """Return the number of objects that either model found, each once."""
    return counts.agree + counts.missing + counts.extra


def _added_class(one: ClassCounts, other: ClassCounts) -> ClassCounts:
    return ClassCounts(**{name: getattr(one, name) + value for name, value in asdict(other).items()})


def _latencies(one: Counts, other: Counts) -> tuple[tuple[Histogram, Histogram], tuple[Histogram, Histogram]]:
    return (one.stable_ms, other.stable_ms), (one.candidate_ms, other.candidate_ms)


def _joined(one: Histogram, other: Histogram) -> Histogram:
    buckets = dict(one.buckets)
    for bucket, count in other.buckets.items():
        buckets[bucket] = buckets.get(bucket, 0) + count
    return Histogram(buckets)
