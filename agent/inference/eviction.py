"""Which standby models to evict: the set whose loss is expected to cost the least time. Plain data in and out.

The expected loss of a model is its use rate x what it takes to bring it back; per byte that it gives, that is its
score. Imports nothing of the worker, so that a simulator can ask the same policy.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MINIMUM_AGE_S: Final = 10.0
_HALF_LIFE_USES: Final = 8.0  # of the mean gap between two uses: a plant's habits change with its orders
_EXACT: Final = 10  # of so many candidates every set is weighed (1024 sets, under a millisecond)
_REMEMBERED: Final = 256  # references; the one used longest ago is forgotten first
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Standby:
    """A model that may be evicted: `reload_ms` is what its load and proof take, `age_s` how long it is resident."""

    reference: str
    bytes: int
    reload_ms: float
    age_s: float = math.inf


@dataclass(frozen=True)
class Score:
    """What a candidate was held to be worth: `rate` uses a changeover, and `score` in ms a changeover and MiB.

    `is_young`: it has not been resident for MINIMUM_AGE_S yet.
    """

    reference: str
    bytes: int
    rate: float
    reload_ms: float
    score: float
    is_young: bool = False


@dataclass
class _Habit:
    last: int  # the number of the changeover that used it last
    mean_gap: float | None = None  # changeovers from one use to the next; None before the second


class Eviction:
    """The policy, with what it remembers of each model's uses. One thread at a time.

    The clock is the device's changeovers, not seconds: a weekend makes nothing older. What was evicted is remembered.
    """

    def __init__(self, minimum_age_s: float = MINIMUM_AGE_S) -> None:
        self._minimum_age_s: Final = minimum_age_s
        self._habits: Final[dict[str, _Habit]] = {}
        self._changeovers = 0

    def used(self, reference: str) -> None:
        """Note a changeover to `reference`, on whatever line; it need not be resident yet."""
        self._changeovers += 1
        habit = self._habits.pop(reference, None) or _Habit(self._changeovers)
        gap = self._changeovers - habit.last
        if gap:
            weight = 1.0 - 0.5 ** (1.0 / _HALF_LIFE_USES)
            habit.mean_gap = gap if habit.mean_gap is None else habit.mean_gap + weight * (gap - habit.mean_gap)
        habit.last = self._changeovers
        self._habits[reference] = habit
        if len(self._habits) > _REMEMBERED:
            del self._habits[next(iter(self._habits))]

    def rate(self, reference: str) -> float:
        """Return the uses a changeover to expect: 1 / the mean gap, or less once it has not been used for longer.

        0 for a model that was never used.
        """
        habit = self._habits.get(reference)
        if habit is None:
            return 0.0
        since = self._changeovers - habit.last + 1
        return 1.0 / max(habit.mean_gap or 0.0, since)

    def scores(self, candidates: Sequence[Standby]) -> tuple[Score, ...]:
        """Value the candidates, the cheapest first."""
        scores = [self._score(one) for one in candidates]
        return tuple(sorted(scores, key=lambda one: (one.score, one.reference)))

    def choose(self, candidates: Sequence[Standby], short_bytes: int) -> tuple[str, ...] | None:
        """Return the references to evict so that `short_bytes` come free; None where all together are too few.

        The set has the least expected loss, and no member that it could do without. Young models are spared as long as
        the others are enough, and only so long: what is wanted now goes before what was wanted a moment ago.
        """
        if short_bytes <= 0:
            return ()
        scores = self.scores(candidates)
        for pool in ([one for one in scores if not one.is_young], scores):
            if sum(one.bytes for one in pool) >= short_bytes:
                chosen = _exact(pool, short_bytes) if len(pool) <= _EXACT else _greedy(pool, short_bytes)
                return tuple(one.reference for one in chosen)
        return None

    def _score(self, one: Standby) -> Score:
        rate = self.rate(one.reference)
        score = rate * one.reload_ms / (max(one.bytes, 1) / _MIB)
        return Score(one.reference, one.bytes, rate, one.reload_ms, score, one.age_s < self._minimum_age_s)


def _loss_ms(one: Score) -> float:
    return one.rate * one.reload_ms


def _exact(pool: Sequence[Score], short_bytes: int) -> list[Score]:
    """Weigh every set: the least loss, then the fewest bytes, then the fewest models."""
    losses, sizes, best = [0.0], [0], (math.inf, 0, 0, 0)
    for members in range(1, 1 << len(pool)):
        rest = members & (members - 1)
        one = pool[(members ^ rest).bit_length() - 1]
        losses.append(losses[rest] + _loss_ms(one))
        sizes.append(sizes[rest] + one.bytes)
        if sizes[members] >= short_bytes:
            best = min(best, (losses[members], sizes[members], members.bit_count(), members))
    return [one for place, one in enumerate(pool) if best[3] >> place & 1]


def _greedy(pool: Sequence[Score], short_bytes: int) -> list[Score]:
    """Take the cheapest by score until it is enough, then leave out what was not needed, the dearest first."""
    chosen: list[Score] = []
    for one in pool:
        if short_bytes > 0:
            chosen.append(one)
            short_bytes -= one.bytes
    for one in sorted(chosen, key=_loss_ms, reverse=True):
        if short_bytes + one.bytes <= 0:
            chosen.remove(one)
            short_bytes += one.bytes
    return chosen
