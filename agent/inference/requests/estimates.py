"""Estimates how long a request's inference takes, by its model and the size of its inputs."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median_low
from typing import Final, NamedTuple

_NEWEST: Final = 5
"""Durations whose median is the estimate, because a single slow one tells of the machine, not of the model."""
_PER_OCTAVE: Final = 8
"""Estimates for each doubling of the inputs' bytes: one's sizes differ by a tenth."""
_UNKNOWN_NS: Final = 50e6
"""Estimate of a model of which nothing was measured, at whatever size."""
_MOST_GROWN_NS: Final = 2e9
"""Most that a shorter duration grows to with the bytes, because that of a few bytes is overhead, not work."""
_PATIENCE, _MOST_PATIENCE = 16.0, 16384.0
"""Time for which an estimate is passed over until it is a unit of time shorter: at first, and at most."""
_GUESS_PATIENCE: Final = 1.0
"""The same before a model's first request, for a guess is often of a load in idle time, and so many times too long."""
_MOST_MODELS: Final = 256


class Measured(NamedTuple):
    """One inference: bytes of its inputs, and its duration in ns (0: not measured)."""

    size_bytes: int
    took_ns: float

    @property
    def size(self) -> int:
        """Size class: inputs of one are alike."""
        return round(_PER_OCTAVE * math.log2(max(1, self.size_bytes)))


@dataclass
class _Estimate:
    """Newest durations at one size; times in ns."""

    took_ns: deque[float] = field(default_factory=lambda: deque(maxlen=_NEWEST))
    guess_ns: float = 0.0
    """Duration that was made from other sizes; counts until one of this size has run."""
    passed_over_ns: int = 0
    """Time at which the lines first left no gap since the last inference; 0 while they have."""
    patience: float = _PATIENCE
    guess_patience: float = _PATIENCE
    """That of the guess."""

    @property
    def full_ns(self) -> float:
        return median_low(self.took_ns) if self.took_ns else self.guess_ns

    def aged_ns(self, now_ns: int, at_ns: int) -> float:
        """Return the estimate at a time where it is passed over from now on, if it was not before."""
        age_ns = max(0, at_ns - (self.passed_over_ns or now_ns))
        patience = self.patience if self.took_ns else self.guess_patience
        return max(0.0, self.full_ns - age_ns / patience)


class Estimates:
    """Table of estimates by model and size, each of which ages while it fits no gap. Threading: one thread.

    Duration: the median of the newest five. A mean would stay above every gap after one slow inference, and none would
    run that corrects it.

    Size: inputs count as alike where their bytes differ by less than a tenth. For a size that has not run, the least
    bound is taken from those that have, and from the proof: a smaller one's duration grows with the bytes, to two
    seconds at most (or the longest of all); a larger one's counts as it is.

    Age: from the first time that it was passed over, an estimate falls by a sixteenth of the time, so that slow
    inferences cannot close a model, and one that is tried makes frames late for a sixteenth of the time at most. The
    inference that then runs replaces it where it took no longer than the aged estimate, or half of it. Where it fitted
    no gap, the estimate falls half as fast from then on, so that a model which is slow is tried ever more seldom. A
    guess before a model's first request falls by all of the time; a later one, of a size that has not run, by a
    sixteenth of it, so that it is tried after half a minute.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns: Final = clock_ns
        self._models: Final[OrderedDict[str, dict[int, _Estimate]]] = OrderedDict()
        """Estimates by size class, by reference; the model used last is the last."""

    def needed_ns(self, reference: str, size_bytes: int, proof: Measured) -> float:
        """Return the time to reserve for an inference; `proof` is what the model's load measured."""
        now_ns = self._clock_ns()
        return self._find(reference, size_bytes, proof).aged_ns(now_ns, now_ns)

    def last_ns(self, reference: str, size_bytes: int, proof: Measured, until_ns: int) -> float:
        """Return the time to reserve at `until_ns` (monotonic) for an inference that is passed over until then."""
        return self._find(reference, size_bytes, proof).aged_ns(self._clock_ns(), until_ns)

    def passed_over(self, reference: str, size_bytes: int, proof: Measured) -> None:
        """Record that the lines left no gap for the estimate, whether or not the request goes on waiting."""
        one = self._find(reference, size_bytes, proof)
        self._of(reference)[Measured(size_bytes, 0).size] = one
        one.passed_over_ns = one.passed_over_ns or self._clock_ns()

    def would_fit(self, reference: str, size_bytes: int, proof: Measured) -> None:
        """Record that the lines left a gap for the estimate, which was not used."""
        self._find(reference, size_bytes, proof).passed_over_ns = 0

    def ended(
        self, reference: str, ran: Measured, proof: Measured, *, fits: bool = False, has_failed: bool = False
    ) -> None:
        """Record an inference; `fits` where the lines leave so long a gap.

        One that failed may have ended early, so it only lengthens an estimate.
        """
        sizes, took_ns = self._of(reference), ran.took_ns
        one = sizes.get(ran.size)
        if has_failed and took_ns <= (one.full_ns if one else self._guess_ns(reference, ran.size, proof)):
            return
        if one is None:
            one = sizes[ran.size] = _Estimate()
        if one.passed_over_ns:
            is_slow = took_ns > max(one.full_ns / 2, one.aged_ns(0, self._clock_ns() - int(took_ns)))
            one.patience = min(2 * one.patience, _MOST_PATIENCE) if is_slow else _PATIENCE
            one.passed_over_ns = 0
            if not is_slow:
                one.took_ns.clear()
        if fits:
            one.patience = _PATIENCE
        one.took_ns.append(took_ns)

    def _find(self, reference: str, size_bytes: int, proof: Measured) -> _Estimate:
        size, sizes = Measured(size_bytes, 0).size, self._models.get(reference, {})
        has_run = any(one.took_ns for one in sizes.values())
        guess_patience = _PATIENCE if has_run else _GUESS_PATIENCE
        return sizes.get(size) or _Estimate(
            guess_ns=self._guess_ns(reference, size, proof), guess_patience=guess_patience
        )

    def _guess_ns(self, reference: str, wanted: int, proof: Measured) -> float:
        sizes = self._models.get(reference, {})
        known = {size: one.full_ns for size, one in sizes.items() if one.took_ns}
        if proof.took_ns:
            known.setdefault(proof.size, proof.took_ns)
        grown = (took_ns * 2.0 ** max(0.0, (wanted - size) / _PER_OCTAVE) for size, took_ns in known.items())
        return min(min(grown, default=_UNKNOWN_NS), max(_MOST_GROWN_NS, max(known.values(), default=0.0)))

    def _of(self, reference: str) -> dict[int, _Estimate]:
        sizes = self._models.setdefault(reference, {})
        self._models.move_to_end(reference)
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return sizes
