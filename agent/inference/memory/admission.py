"""Decides whether a load fits the memory budget and which models it evicts; reports evictions and refusals."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory.cache import Cache, Entry, Origin
from agent.inference.memory.cache_entry import EvictionPlan, LedgerView, compared_only, fewest_first, lines_of
from agent.inference.memory.eviction import Eviction, Score, Standby
from agent.inference.memory.pools import NOTHING, Amount
from agent.inference.memory.unloader import Unloader
from agent.messages.children import CacheDecided, MemoryKept, Message
from agent.messages.errors import OutOfMemoryError
from agent.messages.payloads import CacheCandidate, CacheDecision, CacheReason, Verdict
from agent.messages.references import ModelVersion
from agent.messages.texts.utc import utc_text_of_ns

_LOOK_AGAIN_S: Final = 5.0
"""Seconds between checks whether missing memory of unloaded models has come back."""
_MOST_REPORTED: Final = 8
"""Largest number of candidates in one report."""
_DRAINED_S: Final = 0.5
"""Longest wait for a model's last picture, before the load looks whether it is still wanted."""


class NoRoomError(OutOfMemoryError):
    """A model does not fit the memory budget, whatever may be evicted for it."""

    def __init__(self, detail: str, *, may_fit: bool) -> None:
        """Store the arguments; `may_fit`: it would fit if others did not take the memory."""
        super().__init__(detail)
        self.may_fit: Final = may_fit


class NoFreeRoomError(NoRoomError):
    """A model does not fit the free part of the memory budget, and nothing may be evicted for it."""

    def __init__(self, version: ModelVersion, needed: Amount) -> None:
        super().__init__(f"{version.reference} takes {needed.in_kib}, more than is free", may_fit=True)
        self.needed: Final = needed


class WouldBreakError(NoRoomError):
    """A model fits only where lines deactivate theirs, which they may not be asked for yet."""

    def __init__(self, version: ModelVersion) -> None:
        super().__init__(f"{version.reference} fits only in place of a model that serves", may_fit=True)


@dataclass(frozen=True)
class _Decision:
    """One eviction or refusal of a model; the fields mean the same as in the payload CacheDecision."""

    verdict: Verdict
    reason: CacheReason
    version: ModelVersion
    predicted_bytes: int
    actual_bytes: int | None = None
    wanted: ModelVersion | None = None


class AdmissionController:
    """Controller that admits loads within the memory budget. Owner: the worker.

    Standby models are evicted first, as the set with the least expected loss. If they do not suffice, the fewest
    possible lines that wait for the load deactivate their models. Last, models that such a line has announced are
    evicted. Models that other lines use or have announced stay; where nothing else helps a line that waits, candidates
    that are compared are given up.

    Threading: `used` may be called from any thread; everything else is for the threads that load.
    """

    def __init__(
        self,
        cache: Cache[Model],
        unloader: Unloader,
        send: Callable[[Message], None],
        borrow: Callable[[Amount, bool], None] = lambda _wanted, _is_requested: None,
        give_up: Callable[[Entry[Model], ModelVersion], None] = lambda _candidate, _wanted: None,
    ) -> None:
        """Store the arguments; `borrow(wanted, is_requested)` raises the cache's budget to `wanted` where it can.

        `give_up(candidate, wanted)` ends the comparisons of a candidate whose memory is needed for `wanted`.
        """
        self._give_up: Final = give_up
        self._cache: Final = cache
        self._borrow: Final = borrow
        self._unloader: Final = unloader
        self._send: Final = send
        self._policy: Final = Eviction()
        self._policy_lock: Final = threading.Lock()
        self._kept_reported = MemoryKept(0, ())

    def used(self, reference: str, line: str) -> None:
        """Record for the eviction policy that `line` changes over to the model `reference`."""
        with self._policy_lock:
            self._policy.used(reference, line)

    def charge(
        self, version: ModelVersion, predicted: Amount, lines: frozenset[str], origin: Origin
    ) -> Entry[Model] | EvictionPlan[Model]:
        """Charge a load's predicted bytes and return its entry, or return the evictions that it needs first.

        `lines` wait for the load. This call evicts nothing. Raises NoRoomError where no eviction suffices.
        """
        self._cache.expire()
        self._borrow(self._cache.used + predicted, True)
        view = self._view(predicted, lines)
        if not view.candidates.unguaranteed.is_short:
            entry = self._cache.charge(version, predicted, origin)
            if entry is not None:
                return entry
        plan = self._plan(version, view) or self._plan_without_candidates(version, predicted, lines, view)
        if plan is None:
            alone = (self._cache.guaranteed or self._cache.budget).shortage(predicted).is_short
            raise self._refuse(version, view, "too_large" if alone else "in_use", predicted, None)
        return plan

    def charge_free(self, version: ModelVersion, predicted: Amount, origin: Origin) -> Entry[Model]:
        """Charge a load's predicted bytes where they are free, and return its entry. Raises NoFreeRoomError.

        Models that requests have left make room first.
        """
        self._cache.expire()
        self._borrow(self._cache.used + predicted, False)
        entry = self._cache.charge(version, predicted, origin)
        while entry is None and self._evict_left(version, predicted):
            entry = self._cache.charge(version, predicted, origin)
        if entry is None:
            raise NoFreeRoomError(version, predicted)
        return entry

    def require_free(self, entry: Entry[Model]) -> None:
        """Raise NoFreeRoomError where a loaded model, which may take more than predicted, exceeds the budget."""
        while self._cache.budget.shortage(self._cache.used).is_short:
            if not self._evict_left(entry.version, NOTHING):
                raise NoFreeRoomError(entry.version, entry.charge)

    def release(self, reference: str) -> str:
        """Unload a resident model on request; return why it stays, empty once it is gone."""
        named = [one for one in self._cache.versions() if one.reference == reference]  # as detector, and as tensors
        return "; ".join(kept for kept in map(self._release, named) if kept)

    def _release(self, version: ModelVersion) -> str:
        self._cache.keep_for_requests(version, 0.0)
        entry = self._cache.resident(version)
        if entry is None:
            return ""
        self._cache.wait_drained((entry,), _DRAINED_S)
        self._evict(entry, "asked", None, self._view(NOTHING, ()))
        if entry.model is None:
            return ""
        lines = ", ".join(lines_of({*entry.claims, *entry.reservations}))
        return f"{version.reference} is kept for {lines}" if lines else f"{version.reference} is inferring"

    def _evict_left(self, version: ModelVersion, needed: Amount) -> bool:
        """Evict the model that requests left longest ago; False where there is none, or the budget is too small."""
        left = self._cache.left_by_requests()
        if not left or self._cache.budget.shortage(needed).is_short:
            return False
        oldest = min(left, key=lambda entry: entry.last_use_ns)
        self._evict(oldest, "room", version, self._view(needed, ()))
        return oldest.model is None

    def carry_out(self, plan: EvictionPlan[Model], lines: frozenset[str]) -> None:
        """Evict the models of a plan; to be called once `plan.lines` have deactivated theirs.

        `lines`: those that waited for the load when the plan was made. Waits a moment for a model's last picture, and
        evicts nothing where a line still uses one of `plan.leave`; the next plan tries again.
        """
        for entry in (*plan.leave, *plan.announced):
            for line in lines:
                self._cache.unreserve(entry.version, line)
        self._give_up_all(plan.candidates, plan.version)
        self._cache.wait_drained((*plan.leave, *plan.announced), _DRAINED_S)
        if not all(entry.is_evictable for entry in plan.leave):
            return  # one of them stays after all, and the plan with it
        why: CacheReason = "room" if lines else "announced"
        for entry in plan.leave:
            self._evict(entry, why if entry in plan.candidates else "break", plan.version, plan.view)
        for entry in (*plan.announced, *plan.evict):
            self._evict(entry, why, plan.version, plan.view)

    def require_fit(self, entry: Entry[Model], lines: frozenset[str]) -> None:
        """Evict models until a loaded model fits the budget, because it may take more than was predicted.

        `lines` wait for the load. Models that they leave at the switch count as free; until then the budget may be
        exceeded by one model. Raises NoRoomError where no eviction suffices.
        """
        view = self._view(NOTHING, lines)
        is_beyond = view.candidates.unguaranteed.is_short
        evict = None if is_beyond else self._choose(view.candidates.standby, view.candidates.short)
        if evict is None:
            plan = self._plan(entry.version, view)
            if plan is None or plan.announced:
                plan = self._plan_without_candidates(entry.version, NOTHING, lines, view)
            if plan is None or plan.announced:
                raise self._refuse(entry.version, view, "outgrew", entry.predicted, entry.charge)
            self._give_up_all(plan.candidates, entry.version)
            self._cache.wait_drained(plan.candidates, _DRAINED_S)
            evict = (*plan.candidates, *plan.evict)
        for victim in evict:
            self._evict(victim, "excess", entry.version, view)

    def require_guaranteed(self, version: ModelVersion, leaving: Collection[str]) -> None:
        """Raise NoRoomError where it takes more than is guaranteed to use a resident model that nobody uses yet.

        `leaving`: the lines that would leave their present models for it.
        """
        entry = self._cache.resident(version)
        if entry is None or not entry.is_evictable:
            return
        if self._cache.eviction_candidates(entry.charge, leaving).unguaranteed.is_short:
            detail = f"{version.reference} is in borrowed memory; in use it would exceed what is guaranteed"
            raise NoRoomError(detail, may_fit=True)

    def has_excess(self) -> bool:
        """Return True where the charged bytes exceed the budget, and evicting standby models would end that."""
        found = self._cache.eviction_candidates(NOTHING, ())
        return found.short.is_short and self._choose(found.standby, found.short) is not None

    def tidy(self, *, is_recalled: bool = False) -> None:
        """End expired reservations, evict models beyond the budget, and check whether missing memory has come back.

        Where they do not suffice nothing is evicted, unless the budget was lowered for others (`is_recalled`).
        """
        self._cache.expire()
        view = self._view(NOTHING, ())
        chosen = self._choose(view.candidates.standby, view.candidates.short)
        if chosen is None:
            chosen = view.candidates.standby if is_recalled else ()
        for victim in chosen:
            self._evict(victim, "excess", None, view)
        self.recheck()

    def can_unload(self, versions: Collection[ModelVersion]) -> bool:
        """Return True where `unload` would evict a model."""
        return bool(versions) and any(
            entry.version in versions for entry in self._cache.eviction_candidates(NOTHING, ()).standby
        )

    def unload(self, versions: Collection[ModelVersion]) -> None:
        """Evict the standby models among `versions`, which the catalog has no longer."""
        if not versions:
            return
        view = self._view(NOTHING, ())
        for entry in view.candidates.standby:
            if entry.version in versions:
                self._evict(entry, "removed", None, view)

    def due_s(self) -> float | None:
        """Return the seconds until `tidy` must be called; None while nothing is to be tidied."""
        dues_s = [self._cache.expire(), _LOOK_AGAIN_S if self._kept_reported.bytes else None]
        return min((due_s for due_s in dues_s if due_s is not None), default=None)

    def recheck(self) -> None:
        """Check whether missing memory of unloaded models has come back, and report a change to control."""
        self._unloader.recheck()
        kept = self._unloader.unreclaimed()
        message = MemoryKept(sum(size for _, size in kept), tuple(reference for reference, _ in kept))
        if message != self._kept_reported:
            self._kept_reported = message
            self._send(message)

    def out_of_memory(self, entry: Entry[Model]) -> None:
        """Report that a runtime had no memory for a load that the budget admitted."""
        decision = _Decision("refused", "out_of_memory", entry.version, entry.predicted.total_bytes)
        self._report(decision, self._view(NOTHING, ()))

    def _view(self, needed: Amount, lines: frozenset[str] | tuple[()]) -> LedgerView[Model]:
        candidates = self._cache.eviction_candidates(needed, lines)
        with self._policy_lock:
            scores = self._policy.scores(self._as_standby(candidates.standby))
        return LedgerView(candidates, [_as_candidate(one) for one in scores[:_MOST_REPORTED]])

    def _plan(self, version: ModelVersion, view: LedgerView[Model]) -> EvictionPlan[Model] | None:
        """Return the plan that frees enough memory and deactivates the fewest models; None where no plan does."""
        candidates = view.candidates
        given_up = self._choose(candidates.announced, candidates.unguaranteed)
        if given_up is None:
            return None
        short = candidates.short - self._taken(given_up)
        for leave in fewest_first(candidates.leave):
            evict = self._choose(candidates.standby, short - self._taken(leave))
            if evict is not None:
                return EvictionPlan(version, view, evict, leave, given_up)
        rest = candidates.short - self._taken(candidates.leave)
        needed = (rest - self._taken(candidates.standby)).at_least(candidates.unguaranteed)
        announced = self._choose(candidates.announced, needed)
        if announced is None:
            return None
        evict = self._choose(candidates.standby, rest - self._taken(announced))
        return EvictionPlan(version, view, evict or (), candidates.leave, announced)

    def _plan_without_candidates(
        self, version: ModelVersion, needed: Amount, lines: frozenset[str], view: LedgerView[Model]
    ) -> EvictionPlan[Model] | None:
        """Return the plan that gives up the fewest candidates; None where no plan does, or no line waits."""
        compared = compared_only(view.candidates.kept, lines) if lines else ()
        wider = self._view(needed, lines.union(*((*one.claims, *one.reservations) for one in compared)))
        if not compared or self._plan(version, wider) is None:
            return None
        for some in fewest_first(compared):
            wider = self._view(needed, lines.union(*((*one.claims, *one.reservations) for one in some)))
            plan = self._plan(version, wider)
            if plan is not None:
                others = tuple(one for one in plan.leave if one not in some)
                return replace(plan, leave=(*some, *others), candidates=some)
        return None

    def _give_up_all(self, candidates: Collection[Entry[Model]], wanted: ModelVersion) -> None:
        """End the comparisons of candidates, and the reservations of those whose comparison has not begun."""
        for entry in candidates:
            self._give_up(entry, wanted)
            for name in tuple(entry.reservations):
                self._cache.unreserve(entry.version, name)

    def _choose(self, standby: tuple[Entry[Model], ...], short: Amount) -> tuple[Entry[Model], ...] | None:
        with self._policy_lock:
            chosen = self._policy.choose(self._as_standby(standby), short.host_bytes, short.device_bytes)
        return None if chosen is None else tuple(entry for entry in standby if entry.version.reference in chosen)

    def _as_standby(self, standby: tuple[Entry[Model], ...]) -> list[Standby]:
        now_s = time.monotonic()
        return [
            Standby(
                entry.version.reference,
                (taken := self._taken((entry,))).host_bytes,
                entry.reload_ms,
                now_s - entry.resident_since_s,
                taken.device_bytes,
                entry.is_preloaded,
            )
            for entry in standby
        ]

    def _taken(self, entries: tuple[Entry[Model], ...]) -> Amount:
        """Return the bytes that `entries` together take from each pool."""
        return self._cache.budget.in_pools(sum((entry.charge for entry in entries), NOTHING))

    def _evict(
        self, entry: Entry[Model], reason: CacheReason, wanted: ModelVersion | None, view: LedgerView[Model]
    ) -> None:
        charged_bytes = entry.total_bytes
        if self._unloader.release(entry):
            seen_bytes = charged_bytes - entry.total_bytes
            self._report(_Decision("evicted", reason, entry.version, charged_bytes, seen_bytes, wanted), view)
            self.recheck()

    def _refuse(
        self,
        version: ModelVersion,
        view: LedgerView[Model],
        reason: CacheReason,
        predicted: Amount,
        measured: Amount | None,
    ) -> NoRoomError:
        measured_bytes = None if measured is None else measured.total_bytes
        self._report(_Decision("refused", reason, version, predicted.total_bytes, measured_bytes), view)
        takes = "is predicted to take" if measured is None else "takes"
        candidates, budget = view.candidates, self._cache.guaranteed or self._cache.budget
        kept = ", ".join(f"{e.version.reference} {e.state} {e.charge.in_kib}" for e in candidates.kept) or "nothing"
        short = candidates.short.at_least(candidates.unguaranteed).at_least(NOTHING)
        may_fit = not budget.shortage(predicted if measured is None else measured).is_short
        return NoRoomError(
            f"{version.reference} {takes} {(measured or predicted).in_kib}; of a budget of "
            f"{Amount(budget.host_bytes, budget.device_bytes or 0).in_kib} {short.in_kib} are short, more than may be "
            f"released; kept: {kept}",
            may_fit=may_fit,
        )

    def _report(self, decided: _Decision, view: LedgerView[Model]) -> None:
        decision = CacheDecision(
            at=utc_text_of_ns(time.time_ns()),
            verdict=decided.verdict,
            reason=decided.reason,
            model=decided.version.reference,
            wanted=decided.wanted.reference if decided.wanted is not None else None,
            needed_bytes=view.candidates.short.missing_bytes,
            predicted_bytes=decided.predicted_bytes,
            actual_bytes=decided.actual_bytes,
            candidates=view.scores,
        )
        self._send(CacheDecided(decision))


def _as_candidate(one: Score) -> CacheCandidate:
    size_bytes, rate, reload_ms = one.total_bytes, round(one.rate, 4), round(one.reload_ms, 1)
    return CacheCandidate(one.reference, size_bytes, rate, reload_ms, round(one.score, 4))
