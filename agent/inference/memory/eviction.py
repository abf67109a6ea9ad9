"""Eviction policy: chooses the standby models whose loss is expected to cost the least reload time.

The expected loss of a model is its use rate times its reload time; its score is the loss per byte. The module imports
nothing of the worker, so that a simulator can use the same policy.

The use rate is estimated from the model's last gaps, each the number of changeovers from one use to the next. Gaps
shorter than the time since its last use are ignored; the others predict its next use. A mean would be misled by one
long pause, and would not learn that a levelled sequence repeats no model early. For a model with few gaps, those of the
whole plant are used.
"""

import math
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

MINIMUM_AGE_S: Final = 10.0
_HORIZON: Final = 3.0  # changeovers: a use so far ahead counts 1/e of one that is next
_OWN_GAPS: Final = 16  # remembered gaps of a model
_FADING: Final = 0.8  # weight of a model's gap over that of the next newer one: a plant's habits change with its orders
_PLANTS_GAPS: Final = 200
_PLANTS_WEIGHT: Final = 1.0  # of the plant's gaps together, beside 1 for a model's newest
_EXACT: Final = 10  # up to so many candidates, every set is compared (1024 sets, under a millisecond)
_REMEMBERED: Final = 256  # remembered references; the least recently used is forgotten first
_MIB: Final = 1 << 20


@dataclass(frozen=True)
class Standby:
    """A model that may be evicted."""

    reference: str
    bytes: int
    reload_ms: float
    """Duration of the model's load with its checks."""
    age_s: float = math.inf
    """Seconds since it became resident."""
    device_bytes: int = 0
    """Bytes of GPU memory; `bytes` is host memory."""
    is_preloaded: bool = False
    """It was loaded in idle time, and no line has wanted it since."""


@dataclass(frozen=True)
class Score:
    """The expected loss from evicting one candidate, and the figures that it follows from."""

    reference: str
    bytes: int
    rate: float
    """Uses per changeover."""
    reload_ms: float
    score: float
    """Expected loss, in ms per changeover and MiB."""
    is_young: bool = False
    """The model became resident less than MINIMUM_AGE_S ago."""
    device_bytes: int = 0
    is_preloaded: bool = False

    @property
    def total_bytes(self) -> int:
        """Bytes of host and GPU memory together."""
        return self.bytes + self.device_bytes


@dataclass(frozen=True)
class _Short:
    """Bytes that must still be freed in each pool; 0 in a pool that has room."""

    host_bytes: int
    device_bytes: int

    def is_met(self, host_bytes: int, device_bytes: int) -> bool:
        return host_bytes >= self.host_bytes and device_bytes >= self.device_bytes

    def is_met_by(self, chosen: Sequence[Score]) -> bool:
        return self.is_met(sum(one.bytes for one in chosen), sum(one.device_bytes for one in chosen))

    def is_helped_by(self, one: Score) -> bool:
        return (self.host_bytes > 0 and one.bytes > 0) or (self.device_bytes > 0 and one.device_bytes > 0)

    def without(self, one: Score) -> "_Short":
        return _Short(max(0, self.host_bytes - one.bytes), max(0, self.device_bytes - one.device_bytes))


@dataclass
class _Habit:
    last: int
    """Number of the changeover, counted by line, that last used the model."""
    gaps: deque[int] = field(default_factory=lambda: deque(maxlen=_OWN_GAPS))
    """Changeovers from one use to the next, the newest gap first."""


class Eviction:
    """Eviction policy, which remembers each model's uses, also while the model is not in memory.

    It measures time in changeovers, so that models do not age over a weekend. Threading: one thread at a time.
    """

    def __init__(self, minimum_age_s: float = MINIMUM_AGE_S) -> None:
        self._minimum_age_s: Final = minimum_age_s
        self._habits: Final[dict[tuple[str, str], _Habit]] = {}  # by reference and line
        self._gaps: Final[deque[int]] = deque(maxlen=_PLANTS_GAPS)
        self._changeovers: Final[Counter[str]] = Counter()  # by line

    def used(self, reference: str, line: str = "") -> None:
        """Record a changeover of `line` to `reference`, which need not be resident yet."""
        self._changeovers[line] += 1
        now = self._changeovers[line]
        habit = self._habits.pop((reference, line), None) or _Habit(now)
        if gap := now - habit.last:
            habit.gaps.appendleft(gap)
            self._gaps.append(gap)
        habit.last = now
        self._habits[reference, line] = habit
        if len(self._habits) > _REMEMBERED:
            del self._habits[next(iter(self._habits))]

    def rate(self, reference: str) -> float:
        """Return the expected uses of a model per changeover; nearer uses count for more.

        Each line counts by its share of all changeovers. At most 1 / _HORIZON x exp(-1 / _HORIZON), about 0.24, for a
        model that is wanted next; 0 for one never used.
        """
        habits = [
            (line, self._habits[reference, line]) for line in self._changeovers if (reference, line) in self._habits
        ]
        return sum(self._rate(habit, line) * self._changeovers[line] for line, habit in habits) / max(
            1, self._changeovers.total()
        )

    def _rate(self, habit: _Habit, line: str) -> float:
        since = self._changeovers[line] - habit.last
        own, own_weight = _nearness(since, ((gap, _FADING**place) for place, gap in enumerate(habit.gaps)))
        # beside the plant's gaps, one guess: a model unused for t changeovers stays unused for as many again
        plants, plants_weight = _nearness(since, ((gap, 1.0) for gap in self._gaps))
        guess = (plants + _HORIZON / (since + 1 + _HORIZON)) / (plants_weight + 1)
        return (own + _PLANTS_WEIGHT * guess) / (own_weight + _PLANTS_WEIGHT) / _HORIZON

    def scores(self, candidates: Sequence[Standby]) -> tuple[Score, ...]:
        """Return a score for each candidate, sorted from the cheapest to evict to the most expensive one."""
        scores = [self._score(one) for one in candidates]
        return tuple(sorted(scores, key=lambda one: (one.score, one.reference)))

    def choose(
        self, candidates: Sequence[Standby], short_bytes: int, short_device_bytes: int = 0
    ) -> tuple[str, ...] | None:
        """Return the models to evict, by reference, so that the missing bytes of both pools become free.

        Returns None where all candidates together do not suffice. The set has the least expected loss, and no
        unnecessary member. Preloaded models that no line has wanted go first; models resident for less than the minimum
        age only where the others do not suffice.
        """
        short = _Short(max(0, short_bytes), max(0, short_device_bytes))
        if short.is_met(0, 0):
            return ()
        scores = [one for one in self.scores(candidates) if short.is_helped_by(one)]
        preloaded = [one for one in scores if one.is_preloaded]
        scores = [replace(one, rate=0.0) if one.is_preloaded else one for one in scores]
        for pool in (preloaded, [one for one in scores if one.is_preloaded or not one.is_young], scores):
            if short.is_met_by(pool):
                chosen = _exact(pool, short) if len(pool) <= _EXACT else _greedy(pool, short)
                return tuple(one.reference for one in chosen)
        return None

    def _score(self, one: Standby) -> Score:
        rate = self.rate(one.reference)
        score = rate * one.reload_ms / (max(one.bytes + one.device_bytes, 1) / _MIB)
        is_young = one.age_s < self._minimum_age_s
        return Score(one.reference, one.bytes, rate, one.reload_ms, score, is_young, one.device_bytes, one.is_preloaded)


def _nearness(since: int, gaps: Iterable[tuple[int, float]]) -> tuple[float, float]:
    """Return the weighted sum of exp(-distance / _HORIZON) to the uses predicted by `gaps`, and the sum of weights.

    Only gaps longer than `since`, the changeovers since the last use, predict a use.
    """
    nearness = weights = 0.0
    for gap, weight in gaps:
        if gap > since:
            nearness += weight * math.exp((since - gap) / _HORIZON)
            weights += weight
    return nearness, weights


def _loss_ms(one: Score) -> float:
    return one.rate * one.reload_ms


def _exact(pool: Sequence[Score], short: _Short) -> list[Score]:
    """Return the set that frees enough with the least expected loss, then with the fewest bytes, then models."""
    losses, hosts, devices, best = [0.0], [0], [0], (math.inf, 0, 0, 0)
    for members in range(1, 1 << len(pool)):
        rest = members & (members - 1)
        one = pool[(members ^ rest).bit_length() - 1]
        losses.append(losses[rest] + _loss_ms(one))
        hosts.append(hosts[rest] + one.bytes)
        devices.append(devices[rest] + one.device_bytes)
        if hosts[members] >= short.host_bytes and devices[members] >= short.device_bytes:
            best = min(best, (losses[members], hosts[members] + devices[members], members.bit_count(), members))
    return [one for place, one in enumerate(pool) if best[3] >> place & 1]


def _greedy(pool: Sequence[Score], short: _Short) -> list[Score]:
    """Return models by rising score until they free enough, without those that turn out not to be needed."""
    chosen: list[Score] = []
    rest = short
    for one in pool:
        if rest.is_helped_by(one):
            chosen.append(one)
            rest = rest.without(one)
    for one in sorted(chosen, key=_loss_ms, reverse=True):
        others = [other for other in chosen if other is not one]
        if short.is_met_by(others):
            chosen = others
    return chosen
