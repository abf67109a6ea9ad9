"""Payload of the `cache` topic: resident models, evictions and refusals."""

import logging
from collections import Counter, deque
from collections.abc import Mapping
from typing import Final

from msgspec import UNSET

from agent.messages.children import CacheDecided, CacheState, MemoryKept
from agent.messages.payloads import Cache, CacheDecision, CacheModel, CachePool, CacheReason, ModelProcessor

_log: Final = logging.getLogger(__name__)
_TOLD: Final = 8
_NOTHING_KNOWN: Final[Mapping[str, ModelProcessor]] = {}


class CacheTopic:
    """State of the worker's model cache, with counts since the agent started; for control's loop alone."""

    def __init__(self) -> None:
        self._state: CacheState | None = None
        self._kept_bytes = 0
        self._decisions: Final[deque[CacheDecision]] = deque(maxlen=_TOLD)
        self._evicted: Final[Counter[CacheReason]] = Counter()
        self._refused: Final[Counter[CacheReason]] = Counter()

    def take(self, message: CacheState | CacheDecided | MemoryKept) -> None:
        """Record a message of the worker about its cache."""
        match message:
            case CacheState():
                self._state = message
            case MemoryKept():
                self._kept_bytes = message.bytes
            case CacheDecided():
                self._decide(message.decision)

    def worker_lost(self) -> None:
        """Record an empty cache, because a lost worker has returned its memory."""
        self._kept_bytes = 0
        if self._state is not None:
            pools = {pool: CachePool(one.budget_bytes, 0) for pool, one in (self._state.pools or {}).items()}
            self._state = CacheState(self._state.budget_bytes, 0, (), pools or None)

    def payload(self, processors: Mapping[str, ModelProcessor] = _NOTHING_KNOWN) -> Cache | None:
        """Return the `cache` payload; None before a worker's first report. `processors` are by model reference."""
        if self._state is None:
            return None
        models = [
            CacheModel(
                m.model,
                m.bytes,
                m.state,
                m.last_use,
                m.reserved_for,
                pools=m.pools or UNSET,
                processor=_name(processors.get(m.model)),
            )
            for m in self._state.models
        ]
        return Cache(
            self._state.budget_bytes,
            self._state.used_bytes,
            models,
            kept_bytes=self._kept_bytes,
            decisions=list(self._decisions),
            evicted=dict(self._evicted),
            refused=dict(self._refused),
            pools=self._state.pools or UNSET,
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


def _name(one: ModelProcessor | None) -> str | None:
    return one.processor if one is not None else None
