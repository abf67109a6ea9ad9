"""Estimates how long a request's inference takes, by its model and the size of its inputs."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

_NEWEST: Final = 0.125
"""Weight of the newest duration in the moving averages."""
_UNKNOWN_NS: Final = 50e6
"""Estimate of a model of which nothing was measured, at whatever size."""
_HALF_LIFE_NS, _LONGEST_HALF_LIFE_NS = 2e9, 3600e9
_MOST_MODELS: Final = 256


class Measured(NamedTuple):
    """One inference: bytes of its inputs, and its duration in ns (0: not measured)."""

    size_bytes: int
    took_ns: float


@dataclass
class _Estimate:
    """Moving averages of the durations at one size; times in ns."""

    usual_ns: float
    deviation_ns: float = 0.0
    is_guess: bool = False
    """Made from other sizes, because none of this size has run."""
    refused_ns: int = 0
    """Time of the first refusal since the last inference; 0 without one."""
    half_life_ns: float = _HALF_LIFE_NS

    @property
    def full_ns(self) -> float:
        return self.usual_ns + self.deviation_ns

    def aged_ns(self, now_ns: int) -> float:
        age_ns = now_ns - self.refused_ns if self.refused_ns else 0
        return self.full_ns * math.pow(0.5, age_ns / self.half_life_ns)


class Estimates:
    """Table of estimates by model and size, each of which ages while it causes refusals. Threading: one thread.

    Size: inputs count as alike where their bytes have the same number of binary digits. For a size that has not run,
    the least bound is taken from those that have, and from the proof: a smaller one's duration grows with the bytes, a
    larger one's counts as it is.

    Age: from its first refusal on, an estimate halves every 2 s, so that one slow inference cannot close a model. The
    inference that then runs replaces it where it took less than half of it; where it took longer than the aged
    estimate, the half-life doubles, up to an hour, so that a model which is slow is tried ever more seldom.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock_ns: Final = clock_ns
        self._models: Final[OrderedDict[str, dict[int, _Estimate]]] = OrderedDict()
        """Estimates by number of binary digits, by reference; the model used last is the last."""

    def needed_ns(self, reference: str, size_bytes: int, proof: Measured) -> float:
        """Return the time to reserve for an inference; `proof` is what the model's load measured."""
        one = self._models.get(reference, {}).get(size_bytes.bit_length())
        return self._guess_ns(reference, size_bytes, proof) if one is None else one.aged_ns(self._clock_ns())

    def refused(self, reference: str, size_bytes: int, proof: Measured) -> None:
        """Record that the lines left no time for the estimate."""
        guess = _Estimate(self._guess_ns(reference, size_bytes, proof), is_guess=True)
        one = self._of(reference).setdefault(size_bytes.bit_length(), guess)
        one.refused_ns = one.refused_ns or self._clock_ns()

    def ended(self, reference: str, ran: Measured, proof: Measured, *, has_failed: bool = False) -> None:
        """Record an inference; one that failed may have ended early, so it only lengthens an estimate."""
        sizes, size, took_ns = self._of(reference), ran.size_bytes.bit_length(), ran.took_ns
        one = sizes.get(size)
        if has_failed and took_ns <= (one.full_ns if one else self._guess_ns(reference, ran.size_bytes, proof)):
            return
        if one is None:
            sizes[size] = _Estimate(took_ns)
            return
        if one.refused_ns:
            is_slow = took_ns > one.aged_ns(self._clock_ns() - int(took_ns))
            one.half_life_ns = min(2 * one.half_life_ns, _LONGEST_HALF_LIFE_NS) if is_slow else _HALF_LIFE_NS
            one.refused_ns = 0
            if one.is_guess or took_ns < one.full_ns / 2:
                one.usual_ns, one.deviation_ns, one.is_guess = took_ns, 0.0, False
        one.deviation_ns += (abs(took_ns - one.usual_ns) - one.deviation_ns) * _NEWEST
        one.usual_ns += (took_ns - one.usual_ns) * _NEWEST

    def _guess_ns(self, reference: str, size_bytes: int, proof: Measured) -> float:
        sizes = self._models.get(reference, {})
        known = {size: one.full_ns for size, one in sizes.items() if not one.is_guess}
        if proof.took_ns:
            known.setdefault(proof.size_bytes.bit_length(), proof.took_ns)
        wanted = size_bytes.bit_length()
        return min((took_ns * 2.0 ** max(0, wanted - size) for size, took_ns in known.items()), default=_UNKNOWN_NS)

    def _of(self, reference: str) -> dict[int, _Estimate]:
        sizes = self._models.setdefault(reference, {})
        self._models.move_to_end(reference)
        if len(self._models) > _MOST_MODELS:
            self._models.popitem(last=False)
        return sizes
