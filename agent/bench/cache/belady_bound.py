"""Lower bound of the stall of any cache that loads on demand, even one that knows the future.

Exact, by dynamic programming over the sets that may be resident after each changeover. Belady's rule (evict the page
used last) is optimal for pages only, because models differ in size and cost. A policy that loads announced models ahead
can stay below the bound.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from agent.bench.cache.changeovers import Changeover
from agent.bench.cache.simulator import Cost


class BeladyBound:
    """Player of one trace with every choice of victims at once; sets of models are bit masks."""

    def __init__(self, costs: Mapping[str, Cost], budget_bytes: int) -> None:
        self._bits: Final = {model: 1 << place for place, model in enumerate(costs)}
        self._budget_bytes: Final = budget_bytes
        self._bytes: Final = _sums([one.bytes for one in costs.values()])
        self._load_s: Final = _sums([one.load_s for one in costs.values()])
        self._active: Final[dict[str, int]] = {}

    def stall_s(self, trace: Iterable[Changeover]) -> float:
        """Return the least sum of load times."""
        states = {0: 0.0}
        for one in trace:
            states = self._step(states, one.line, self._bits[one.model])
        return min(states.values())

    def _step(self, states: dict[int, float], line: str, wanted: int) -> dict[int, float]:
        after: dict[int, float] = {}
        for resident, cost_s in states.items():
            if resident & wanted:
                after[resident] = min(cost_s, after.get(resident, cost_s))
                continue
            loaded_s = cost_s + self._load_s[wanted]
            for kept in self._kept(resident, line, wanted):
                now = kept | wanted
                after[now] = min(loaded_s, after.get(now, loaded_s))
        self._active[line] = wanted
        return self._worth_keeping(after)

    def _kept(self, resident: int, line: str, wanted: int) -> Iterator[int]:
        """Yield the largest sets that may stay, without the line's old model where it must go."""
        room = self._budget_bytes - self._bytes[wanted]
        others = 0
        for other, model in self._active.items():
            others |= model if other != line else 0
        serving = others | self._active.get(line, 0)
        if self._bytes[serving] <= room:
            yield from self._largest(resident, serving, room)
        else:
            yield from self._largest(resident & ~(serving & ~others), others, room)

    def _largest(self, resident: int, must: int, room: float) -> Iterator[int]:
        """Yield the maximal sets between `must` and `resident` that fit."""
        free = resident & ~must
        some = free
        while True:
            kept = must | some
            spare = room - self._bytes[kept]
            if spare >= 0 and all(self._bytes[bit] > spare for bit in _bits_of(free & ~some)):
                yield kept
            if not some:
                return
            some = (some - 1) & free

    def _worth_keeping(self, states: dict[int, float]) -> dict[int, float]:
        """Drop each set that costs no less than another set plus loading the difference."""
        kept: dict[int, float] = {}
        for resident, cost_s in sorted(states.items(), key=lambda item: item[1]):
            if all(cost_s < other_s + self._load_s[resident & ~other] for other, other_s in kept.items()):
                kept[resident] = cost_s
        return kept


def _bits_of(models: int) -> Iterator[int]:
    while models:
        rest = models & (models - 1)
        yield models ^ rest
        models = rest


def _sums(values: list[float] | list[int]) -> list[float]:
    """Return the sum of each subset of `values`, indexed by its mask."""
    sums: list[float] = [0]
    for value in values:
        sums += [one + value for one in sums]
    return sums
