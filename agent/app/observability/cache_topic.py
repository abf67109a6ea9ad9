"""Payload of the `cache` topic: resident models, evictions and refusals."""

import logging
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET

from agent.messages.children import CacheDecided, CacheState, MemoryKept, ResidentModel
from agent.messages.groups.told import CacheGroup
from agent.messages.payloads import (
    Cache,
    CacheDecision,
    CacheModel,
    CachePool,
    CacheReason,
    ModelProcessor,
    Pool,
)
from agent.settings import DEFAULT_GROUP

_log: Final = logging.getLogger(__name__)
_TOLD: Final = 8
_NOTHING_KNOWN: Final[Mapping[str, ModelProcessor]] = {}


@dataclass
class _Ledger:
    """The model cache of one group, as its worker reported it."""

    state: CacheState | None = None
    kept_bytes: int = 0


class CacheTopic:
    """State of the workers' model caches, with counts since the agent started; for control's loop alone."""

    def __init__(self, guaranteed: Mapping[str, int] | None = None, *, lone: str = DEFAULT_GROUP) -> None:
        """Store the guaranteed bytes of each group, where there are several; else `lone` is the only one's name."""
        self._guaranteed: Final = guaranteed or {}
        self._ledgers: Final[dict[str, _Ledger]] = {group: _Ledger() for group in self._guaranteed or (lone,)}
        self._decisions: Final[deque[CacheDecision]] = deque(maxlen=_TOLD)
        self._evicted: Final[Counter[CacheReason]] = Counter()
        self._refused: Final[Counter[CacheReason]] = Counter()

    def take(self, message: CacheState | CacheDecided | MemoryKept, group: str = DEFAULT_GROUP) -> None:
        """Record a message of a group's worker about its cache."""
        match message:
            case CacheState():
                self._ledgers[group].state = message
            case MemoryKept():
                self._ledgers[group].kept_bytes = message.bytes
            case CacheDecided():
                self._decide(message.decision)

    def worker_lost(self, group: str = DEFAULT_GROUP) -> None:
        """Record an empty cache, because a lost worker has returned its memory."""
        ledger = self._ledgers[group]
        ledger.kept_bytes = 0
        if (state := ledger.state) is not None:
            pools = {pool: CachePool(one.budget_bytes, 0) for pool, one in (state.pools or {}).items()}
            ledger.state = CacheState(state.budget_bytes, 0, (), pools or None)

    def all_lost(self) -> None:
        """Record empty caches of all groups."""
        for group in self._ledgers:
            self.worker_lost(group)

    def payload(self, processors: Mapping[str, ModelProcessor] = _NOTHING_KNOWN) -> Cache | None:
        """Return the `cache` payload; None before a worker's first report. `processors` are by model reference."""
        told = {group: one for group, one in self._ledgers.items() if one.state is not None}
        states = {group: one.state for group, one in told.items() if one.state is not None}
        if not states:
            return None
        models = [
            _model(one, processors, group if self._guaranteed else None)
            for group, state in states.items()
            for one in state.models
        ]
        groups = {
            group: CacheGroup(self._guaranteed[group], state.budget_bytes, state.used_bytes, told[group].kept_bytes)
            for group, state in states.items()
            if self._guaranteed
        }
        return Cache(
            sum(one.budget_bytes for one in states.values()),
            sum(one.used_bytes for one in states.values()),
            models,
            kept_bytes=sum(one.kept_bytes for one in told.values()),
            decisions=list(self._decisions),
            evicted=dict(self._evicted),
            refused=dict(self._refused),
            pools=_pools(states.values()) or UNSET,
            groups=groups or UNSET,
        )

    def counts(self) -> tuple[dict[CacheReason, int], dict[CacheReason, int]]:
        """Return the numbers of evictions and of refusals since the agent started, by reason."""
        return dict(self._evicted), dict(self._refused)

    def _decide(self, decision: CacheDecision) -> None:
        self._decisions.append(decision)
        (self._evicted if decision.verdict == "evicted" else self._refused)[decision.reason] += 1
        _log.info(
            "event=model_%s model=%s reason=%s wanted=%s needed_bytes=%d predicted_bytes=%d actual_bytes=%s scores=%s",
            decision.verdict,
            decision.model,
            decision.reason,
            decision.wanted,
            decision.needed_bytes,
            decision.predicted_bytes,
            decision.actual_bytes,
            ",".join(f"{one.model}={one.score:g}" for one in decision.candidates) or "none",
        )


def _model(one: ResidentModel, processors: Mapping[str, ModelProcessor], group: str | None) -> CacheModel:
    processor = processors.get(one.model)
    return CacheModel(
        one.model,
        one.bytes,
        one.state,
        one.last_use,
        one.reserved_for,
        pools=one.pools or UNSET,
        processor=processor.processor if processor is not None else None,
        group=group if group is not None else UNSET,
    )


def _pools(states: Iterable[CacheState]) -> dict[Pool, CachePool]:
    """Return the sum of each pool over all groups."""
    sums: dict[Pool, CachePool] = {}
    for state in states:
        for pool, one in (state.pools or {}).items():
            had = sums.get(pool, CachePool(0, 0))
            sums[pool] = CachePool(
                had.budget_bytes + one.budget_bytes,
                had.used_bytes + one.used_bytes,
                had.runtime_bytes + one.runtime_bytes,
            )
    return sums
