"""Simulation of a model cache under a trace of changeovers, without a runtime.

Follows the worker's rules: an active model is evicted only where the new model cannot fit beside it, then the line's
old model goes first; the policy chooses among standby models; a reserved one stays; the line waits for a load as long
as its size takes. Between changeovers likely models are preloaded where they fit, most likely first.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from agent.bench.cache.changeovers import Changeover, Trace
from agent.control.learned_order import LearnedOrder, ranked


@dataclass(frozen=True)
class Cost:
    """Cost of one size: resident bytes, and seconds to load and prove."""

    bytes: int
    load_s: float


@dataclass(frozen=True)
class Standby:
    """An evictable model, as a policy sees it."""

    model: str
    bytes: int
    load_s: float
    age_s: float
    idle_s: float
    is_preloaded: bool = False


class Policy(Protocol):
    """Chooser of models to evict; `used` is called for every changeover, in order, before `choose`."""

    def used(self, model: str, line: str) -> None:
        """Record that `line` changes over to `model`."""

    def choose(self, candidates: list[Standby], short_bytes: int) -> list[str]:
        """Return models that together have at least `short_bytes`; all candidates have."""


@dataclass
class Outcome:
    """Cost of one trace."""

    changeovers: int = 0
    found: int = 0
    """Changeovers without a wait."""
    stall_s: float = 0.0
    """Sum of the lines' waits for loads."""
    evictions: int = 0
    broken_reservations: int = 0
    """Reserved models evicted for another line's changeover, which would not fit otherwise."""
    preloads: int = 0


class Simulator:
    """One cache of `budget_bytes`; changeovers are announced `lead_s` ahead, or never with None.

    `preloads`: likely models are loaded in idle time, by the learned order of each line and then as they are listed in
    `costs`.
    """

    def __init__(
        self,
        costs: Mapping[str, Cost],
        budget_bytes: int,
        policy: Policy,
        lead_s: float | None = None,
        *,
        preloads: bool = False,
    ) -> None:
        self.outcome: Final = Outcome()
        self._costs: Final = costs
        self._budget_bytes: Final = budget_bytes
        self._policy: Final = policy
        self._lead_s: Final = lead_s
        self._since: Final[dict[str, float]] = {}  # resident models, since when
        self._last_use: Final[dict[str, float]] = {}
        self._active: Final[dict[str, str]] = {}
        self._reserved: Final[dict[tuple[str, str], float]] = {}  # line and model, when its load is over
        self._preloads: Final = preloads
        self._preloaded: Final[set[str]] = set()  # and not wanted since
        self._orders: Final[dict[str, LearnedOrder]] = {}  # by line
        self._idle_from_s = 0.0

    def run(self, trace: Iterable[Changeover]) -> Outcome:
        """Play a trace; return its cost."""
        for at_s, is_announcement, one in sorted(self._events(trace), key=lambda event: event[0]):
            if self._preloads:
                self._preload(at_s)
            if is_announcement:
                self._announce(at_s, one)
            else:
                self._change_over(at_s, one)
        return self.outcome

    def _events(self, trace: Iterable[Changeover]) -> Iterable[tuple[float, bool, Changeover]]:
        """Yield changeovers, and announcements `lead_s` ahead but not before the line's previous changeover."""
        before_s: dict[str, float] = {}
        for one in trace:
            yield float(one.at_s), False, one
            if self._lead_s is not None:
                yield max(one.at_s - self._lead_s, before_s.get(one.line, float("-inf"))), True, one
            before_s[one.line] = float(one.at_s)

    def _announce(self, at_s: float, one: Changeover) -> None:
        """Load a model beside the active ones, if it fits, and reserve it for its line."""
        key = (one.line, one.model)
        self._preloaded.discard(one.model)
        if one.model in self._since:
            self._reserved[key] = at_s
        elif self._make_room(at_s, one.model, leaving=None):
            self._since[one.model] = at_s
            self._reserved[key] = self._idle_from_s = at_s + self._costs[one.model].load_s

    def _change_over(self, at_s: float, one: Changeover) -> None:
        self._policy.used(one.model, one.line)
        self.outcome.changeovers += 1
        done_s = self._reserved.pop((one.line, one.model), at_s)
        if one.model not in self._since:
            fits = self._make_room(at_s, one.model, one.line)
            assert fits, f"{one.model} does not fit at all"
            self._since[one.model] = at_s
            done_s = at_s + self._costs[one.model].load_s
        wait_s = max(0.0, done_s - at_s)
        self.outcome.stall_s += wait_s
        self.outcome.found += wait_s == 0
        if one.line in self._active:
            self._last_use[self._active[one.line]] = at_s
        self._active[one.line] = one.model
        self._preloaded.discard(one.model)
        self._orders[one.line] = self._orders.get(one.line, LearnedOrder()).then(one.model)
        self._idle_from_s = max(self._idle_from_s, done_s)

    def _preload(self, until_s: float) -> None:
        """Load likely models one after another into free memory; the load that `until_s` overtakes is dropped."""
        for model in [*ranked(self._orders.values()), *self._costs]:
            free_bytes = self._budget_bytes - sum(self._costs[one].bytes for one in self._since)
            if model in self._since or self._costs[model].bytes > free_bytes:
                continue
            done_s = self._idle_from_s + self._costs[model].load_s
            if done_s > until_s:
                return
            self._idle_from_s = self._since[model] = done_s
            self._preloaded.add(model)
            self.outcome.preloads += 1

    def _make_room(self, at_s: float, model: str, leaving: str | None) -> bool:
        """Evict until `model` fits; False where it cannot fit.

        Where evictions are not enough, the line `leaving` gives up its active model, then its reserved ones, and at
        last the other lines give up theirs.
        """
        if self._evict(at_s, model):
            return True
        if leaving is None:
            return False
        self._active.pop(leaving, None)
        if self._evict(at_s, model):
            return True
        for mine in (True, False):
            for key in [key for key in self._reserved if (key[0] == leaving) is mine]:
                del self._reserved[key]
                self.outcome.broken_reservations += not mine
                if self._evict(at_s, model):
                    return True
        return False

    def _evict(self, at_s: float, model: str) -> bool:
        short = sum(self._costs[one].bytes for one in self._since) + self._costs[model].bytes - self._budget_bytes
        standby = [self._standby(at_s, one) for one in self._since if self._may_go(one)]
        if short > sum(one.bytes for one in standby):
            return False
        for victim in self._policy.choose(standby, short) if short > 0 else []:
            del self._since[victim]
            self._preloaded.discard(victim)
            self.outcome.evictions += 1
        return True

    def _may_go(self, model: str) -> bool:
        return model not in self._active.values() and not self._is_reserved(model)

    def _is_reserved(self, model: str) -> bool:
        return any(reserved == model for _line, reserved in self._reserved)

    def _standby(self, at_s: float, model: str) -> Standby:
        cost = self._costs[model]
        since_s = self._since[model]
        return Standby(
            model,
            cost.bytes,
            cost.load_s,
            at_s - since_s,
            at_s - self._last_use.get(model, since_s),
            model in self._preloaded,
        )


def costs_of(trace: Trace, by_size: Mapping[str, Cost]) -> dict[str, Cost]:
    """Return the cost of each model of a trace."""
    return {model: by_size[size] for model, size in trace.header.models.items()}
