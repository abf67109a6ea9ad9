"""Make room for a load, or say why there is none. Every eviction and refusal is told, with what it was decided by."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory.cache import Cache, Entry, EvictionCandidates
from agent.inference.memory.eviction import Eviction, Score, Standby
from agent.inference.memory.unloader import Unloader
from agent.messages.children import CacheDecided, MemoryKept, Message
from agent.messages.errors import OutOfMemoryError
from agent.messages.payloads import CacheCandidate, CacheDecision, CacheReason, Verdict
from agent.messages.references import ModelVersion
from agent.messages.utc import utc_text_of_ns

_LOOK_AGAIN_S: Final = 5.0  # at bytes that did not come back
_TOLD: Final = 8  # candidates in one report


class NoRoomError(OutOfMemoryError):
    """The budget has no room for a load, whatever may be evicted."""


@dataclass(frozen=True)
class LoadRequest:
    """A load that needs room. `lines` are those that wait for it: they would give up what they have now.

    `leave` asks some of them to, and returns when they have.
    """

    version: ModelVersion
    lines: Callable[[], frozenset[str]]
    leave: Callable[[set[str]], None]


@dataclass(frozen=True)
class _Plan:
    """Standby models to evict, models to take off their lines, and announced ones that have to yield to their line."""

    evict: tuple[Entry[Model], ...] = ()
    leave: tuple[Entry[Model], ...] = ()
    announced: tuple[Entry[Model], ...] = ()


@dataclass(frozen=True)
class _Decision:
    """What was decided of one model; the sizes are those of CacheDecided."""

    verdict: Verdict
    reason: CacheReason
    version: ModelVersion
    predicted_bytes: int
    actual_bytes: int | None = None
    wanted: ModelVersion | None = None


@dataclass(frozen=True)
class _LedgerView:
    """The ledger as it was when something was decided, and what its standby models were worth then."""

    standing: EvictionCandidates[Model]
    candidates: list[CacheCandidate]


class AdmissionController:
    """The budget's keeper. `used` may be called from any thread, all else is for the loader's.

    Standby models go first, the set that costs the least. Only where all of them are not enough do lines that wait for
    the load leave their models, as few as possible; and only where that is not enough either does what such a line
    itself has announced yield to what it wants now. What others use, or have announced, stays.
    """

    def __init__(self, cache: Cache[Model], releaser: Unloader, send: Callable[[Message], None]) -> None:
        self._cache: Final = cache
        self._releaser: Final = releaser
        self._send: Final = send
        self._policy: Final = Eviction()
        self._weighing: Final = threading.Lock()
        self._kept_told = MemoryKept(0, ())

    def used(self, reference: str, line: str) -> None:
        """Note a changeover of `line` to a model."""
        with self._weighing:
            self._policy.used(reference, line)

    def admit(self, want: LoadRequest, predicted_bytes: int) -> Entry[Model]:
        """Make room and charge the load, or raise NoRoomError; nothing is released before it is known to help."""
        self.look_again()
        while True:
            lines = want.lines()
            self._cache.expire()
            entry = self._cache.charge(want.version, predicted_bytes)
            if entry is not None:
                return entry
            view = self._look(predicted_bytes, lines)
            plan = self._plan(view.standing)
            if plan is None:
                alone = predicted_bytes > self._cache.budget_bytes
                raise self._refuse(want, view, "too_large" if alone else "in_use", predicted_bytes, None)
            self._carry_out(plan, want, view, lines)

    def require_fit(self, want: LoadRequest, entry: Entry[Model]) -> None:
        """Look again now that a load is measured: it may take more than was predicted. Raises NoRoomError.

        What its lines let go at the flip counts: until then the budget may be exceeded by one model.
        """
        view = self._look(0, want.lines())
        evict = self._choose(view.standing.standby, view.standing.short_bytes)
        if evict is None:
            plan = self._plan(view.standing)
            if plan is None or plan.announced:
                raise self._refuse(want, view, "outgrew", entry.predicted_bytes, entry.bytes)
            evict = plan.evict
        for victim in evict:
            self._evict(victim, "excess", want, view)

    def has_excess(self) -> bool:
        """Say whether the budget is exceeded and evicting helps."""
        standing = self._cache.standing(0, ())
        return standing.short_bytes > 0 and self._choose(standing.standby, standing.short_bytes) is not None

    def tidy(self) -> None:
        """End what is over, evict what is too much, and see what has come back since."""
        self._cache.expire()
        view = self._look(0, ())
        for victim in self._choose(view.standing.standby, view.standing.short_bytes) or ():
            self._evict(victim, "excess", None, view)
        self.look_again()

    def due_s(self) -> float | None:
        """Return the seconds until `tidy` has something to do, None where nothing comes by itself."""
        dues_s = [self._cache.expire(), _LOOK_AGAIN_S if self._kept_told.bytes else None]
        return min((due_s for due_s in dues_s if due_s is not None), default=None)

    def look_again(self) -> None:
        """See whether bytes that were kept back have returned since, and tell."""
        self._releaser.look_again()
        kept = self._releaser.kept()
        message = MemoryKept(sum(size for _, size in kept), tuple(reference for reference, _ in kept))
        if message != self._kept_told:
            self._kept_told = message
            self._send(message)

    def out_of_memory(self, version: ModelVersion, entry: Entry[Model] | None) -> None:
        """Tell that a runtime had no memory for a load, whatever the budget says."""
        predicted_bytes = entry.predicted_bytes if entry is not None else 0
        self._tell(_Decision("refused", "out_of_memory", version, predicted_bytes), self._look(0, ()))

    def _look(self, needed_bytes: int, lines: frozenset[str] | tuple[()]) -> _LedgerView:
        standing = self._cache.standing(needed_bytes, lines)
        with self._weighing:
            scores = self._policy.scores(_as_data(standing.standby))
        return _LedgerView(standing, [_as_told(one) for one in scores[:_TOLD]])

    def _plan(self, standing: EvictionCandidates[Model]) -> _Plan | None:
        for leave in _fewest_first(standing.leave):
            evict = self._choose(standing.standby, standing.short_bytes - _sum(leave))
            if evict is not None:
                return _Plan(evict, leave)
        rest_bytes = standing.short_bytes - _sum(standing.leave)
        announced = self._choose(standing.announced, rest_bytes - _sum(standing.standby))
        if announced is None:
            return None
        evict = self._choose(standing.standby, rest_bytes - _sum(announced))
        return _Plan(evict or (), standing.leave, announced)

    def _choose(self, standby: tuple[Entry[Model], ...], short_bytes: int) -> tuple[Entry[Model], ...] | None:
        with self._weighing:
            chosen = self._policy.choose(_as_data(standby), short_bytes)
        return None if chosen is None else tuple(entry for entry in standby if entry.version.reference in chosen)

    def _carry_out(self, plan: _Plan, want: LoadRequest, view: _LedgerView, lines: frozenset[str]) -> None:
        if plan.leave:
            want.leave({line for entry in plan.leave for line in tuple(entry.claims)})
            want.lines()  # what nobody waits for any more evicts nothing
        for entry in (*plan.leave, *plan.announced):
            for line in lines:
                self._cache.unreserve(entry.version, line)
        if not all(entry.is_evictable for entry in plan.leave):
            return  # one of them stays after all, and the plan with it
        why: CacheReason = "room" if lines else "announced"
        for entry in plan.leave:
            self._evict(entry, "break", want, view)
        for entry in (*plan.announced, *plan.evict):
            self._evict(entry, why, want, view)

    def _evict(self, entry: Entry[Model], reason: CacheReason, want: LoadRequest | None, view: _LedgerView) -> None:
        charged_bytes = entry.bytes
        if self._releaser.release(entry):
            wanted = want.version if want is not None else None
            seen_bytes = charged_bytes - entry.bytes
            self._tell(_Decision("evicted", reason, entry.version, charged_bytes, seen_bytes, wanted), view)
            self.look_again()

    def _refuse(
        self,
        want: LoadRequest,
        view: _LedgerView,
        reason: CacheReason,
        predicted_bytes: int,
        measured_bytes: int | None,
    ) -> NoRoomError:
        self._tell(_Decision("refused", reason, want.version, predicted_bytes, measured_bytes), view)
        needed_bytes = predicted_bytes if measured_bytes is None else measured_bytes
        takes = "is predicted to take" if measured_bytes is None else "takes"
        standing, budget_bytes = view.standing, self._cache.budget_bytes
        kept = ", ".join(f"{e.version.reference} {e.state} {e.bytes >> 10} KiB" for e in standing.kept) or "nothing"
        return NoRoomError(
            f"{want.version.reference} {takes} {needed_bytes >> 10} KiB; of a budget of {budget_bytes >> 10} KiB "
            f"{max(0, standing.short_bytes) >> 10} KiB are short, more than may be released; kept: {kept}"
        )

    def _tell(self, fate: _Decision, view: _LedgerView) -> None:
        decision = CacheDecision(
            at=utc_text_of_ns(time.time_ns()),
            verdict=fate.verdict,
            reason=fate.reason,
            model=fate.version.reference,
            wanted=fate.wanted.reference if fate.wanted is not None else None,
            needed_bytes=max(0, view.standing.short_bytes),
            predicted_bytes=fate.predicted_bytes,
            actual_bytes=fate.actual_bytes,
            candidates=view.candidates,
        )
        self._send(CacheDecided(decision))


def _as_told(one: Score) -> CacheCandidate:
    return CacheCandidate(one.reference, one.bytes, round(one.rate, 4), round(one.reload_ms, 1), round(one.score, 4))


def _as_data(standby: tuple[Entry[Model], ...]) -> list[Standby]:
    now_s = time.monotonic()
    return [
        Standby(entry.version.reference, entry.bytes, entry.reload_ms, now_s - entry.resident_since_s)
        for entry in standby
    ]


def _sum(entries: tuple[Entry[Model], ...]) -> int:
    return sum(entry.bytes for entry in entries)


def _fewest_first(entries: tuple[Entry[Model], ...]) -> Iterator[tuple[Entry[Model], ...]]:
    """Yield every set of entries: the fewest members first, and of as many those with the fewest lines."""
    for count in range(len(entries) + 1):
        yield from sorted(combinations(entries, count), key=lambda one: sum(len(entry.claims) for entry in one))
