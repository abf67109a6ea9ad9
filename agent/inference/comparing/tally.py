"""Counts of a comparison since they were last reported."""

import threading
from collections import Counter
from typing import Any, Final

from agent.inference.comparing.matching import Difference
from agent.messages.canary import ClassCounts, Counts, Histogram, bucket_of

_MOST_CLASSES: Final = 256


class _Class:
    def __init__(self) -> None:
        self.stable = self.candidate = self.agree = self.frames = self.fewer = self.more = 0
        self.score = self.overlap = 0.0


class Tally:
    """Counts since the last report; any thread may count and report."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._counts: Counter[str] = Counter()
        self._score = self._score_squares = 0.0
        self._unsteady: dict[str, Any] = {}
        self._classes: dict[str, _Class] = {}
        self._stable: Counter[int] = Counter()
        self._candidate: Counter[int] = Counter()

    def count(self, name: str) -> None:
        """Add one to a count of `Counts`."""
        with self._lock:
            self._counts[name] += 1

    def stable_answered(self, latency_ms: float) -> None:
        """Count a frame of the line that the stable model answered."""
        with self._lock:
            self._counts["seen"] += 1
            self._stable[bucket_of(latency_ms)] += 1

    def candidate_answered(self, latency_ms: float) -> None:
        """Count a frame of the line that the candidate answered."""
        with self._lock:
            self._counts["seen"] += 1
            self._counts["answered"] += 1
            self._candidate[bucket_of(latency_ms)] += 1

    def shadowed(self, latency_ms: float) -> None:
        """Record how long the candidate took for a frame in slack."""
        with self._lock:
            self._candidate[bucket_of(latency_ms)] += 1

    def compared(self, found: Difference) -> None:
        """Count a frame that both models answered."""
        with self._lock:
            self._add(found)

    def steadied(self, stable: float, candidate: float) -> None:
        """Record how unsteady both models were in a frame that they inferred once more."""
        with self._lock:
            self._counts["again"] += 1
            for name, value in (
                ("stable_unsteady", stable),
                ("candidate_unsteady", candidate),
                ("stable_unsteady_squares", stable * stable),
                ("candidate_unsteady_squares", candidate * candidate),
                ("unsteady_products", stable * candidate),
            ):
                self._unsteady[name] = self._unsteady.get(name, 0.0) + value

    def taken(self) -> Counts | None:
        """Return the counts since the last report, and begin anew; None where nothing was counted."""
        with self._lock:
            if not self._counts and not self._candidate:
                return None
            counts = Counts(
                **self._counts,
                **self._unsteady,
                score=self._score,
                score_squares=self._score_squares,
                classes={label: ClassCounts(**vars(one)) for label, one in self._classes.items()},
                stable_ms=Histogram(dict(self._stable)),
                candidate_ms=Histogram(dict(self._candidate)),
            )
            self._begin()
            return counts

    def _add(self, found: Difference) -> None:
        counts = self._counts
        counts["frames"] += 1
        counts["objects"] += bool(found.pairs or found.missing or found.extra)
        counts["agree"] += len(found.pairs)
        counts["missing"] += len(found.missing)
        counts["extra"] += len(found.extra)
        counts["against"] += found.against
        counts["borderline"] += found.borderline
        if found.pairs:
            mean = sum(pair.score for pair in found.pairs) / len(found.pairs)
            counts["scored"] += 1
            self._score += mean
            self._score_squares += mean * mean
        self._add_classes(found)

    def _add_classes(self, found: Difference) -> None:
        agree = Counter(pair.label for pair in found.pairs)
        missing, extra = Counter(one.label for one in found.missing), Counter(one.label for one in found.extra)
        for label in agree.keys() | missing.keys() | extra.keys():
            if label not in self._classes and len(self._classes) >= _MOST_CLASSES:
                continue
            one = self._classes.setdefault(label, _Class())
            one.stable += agree[label] + missing[label]
            one.candidate += agree[label] + extra[label]
            one.agree += agree[label]
            one.frames += 1
            one.fewer += missing[label] > extra[label]
            one.more += extra[label] > missing[label]
        for pair in found.pairs:
            if pair.label in self._classes:
                self._classes[pair.label].score += pair.score
                self._classes[pair.label].overlap += pair.overlap
