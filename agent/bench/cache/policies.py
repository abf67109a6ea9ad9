"""Eviction policies of the simulator: the agent's own, and LRU."""

from typing import Final

from agent.bench.cache.simulator import Standby
from agent.inference.memory import eviction


class Lru:
    """Policy that evicts the least recently used model first."""

    def used(self, model: str, line: str) -> None:
        """Do nothing, because the simulator states idle times."""

    def choose(self, candidates: list[Standby], short_bytes: int) -> list[str]:
        """Implement Policy."""
        chosen = []
        for one in sorted(candidates, key=lambda one: -one.idle_s):
            if short_bytes <= 0:
                break
            chosen.append(one.model)
            short_bytes -= one.bytes
        return chosen


class AgentPolicy:
    """The worker's own policy."""

    def __init__(self) -> None:
        self._eviction: Final = eviction.Eviction()

    def used(self, model: str, line: str) -> None:
        """Implement Policy."""
        self._eviction.used(model, line)

    def choose(self, candidates: list[Standby], short_bytes: int) -> list[str]:
        """Implement Policy."""
        standby = [
            eviction.Standby(one.model, one.bytes, one.load_s * 1000, one.age_s, is_preloaded=one.is_preloaded)
            for one in candidates
        ]
        return list(self._eviction.choose(standby, short_bytes) or ())
