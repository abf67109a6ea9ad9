"""Notices a candidate whose inferences keep memory."""

import time
from typing import Final

from agent.inference.backends import Model
from agent.inference.memory import process_memory
from agent.inference.memory.cache import Cache
from agent.messages.canary import CanaryReason

_SETTLED_S: Final = 3.0
"""Time after the begin in which first inferences may still take memory that the runtime keeps."""
_INTERVAL_S: Final = 0.5


class MemoryGrowth:
    """Growth of the process's memory beyond what the cache accounts for; for one thread.

    It is measured anew whenever models come or go, because a load's bytes are only known once it has ended.
    """

    def __init__(self, cache: Cache[Model], limit_bytes: int) -> None:
        self._cache: Final = cache
        self._limit_bytes: Final = limit_bytes
        self._models: object = None
        self._from_s = 0.0
        self._base_bytes: int | None = None
        self._due_s = 0.0

    def trouble(self) -> tuple[CanaryReason, str] | None:
        """Return what is wrong where the memory has grown beyond the limit; None where it has not."""
        now_s = time.monotonic()
        if now_s < self._due_s:
            return None
        self._due_s = now_s + _INTERVAL_S
        models = self._cache.versions()
        if models != self._models or self._cache.is_loading:
            self._models, self._base_bytes, self._from_s = models, None, now_s + _SETTLED_S
        if now_s < self._from_s:
            return None
        held_bytes = process_memory.process_bytes()
        if self._base_bytes is None:
            self._base_bytes = held_bytes
        if held_bytes - self._base_bytes <= self._limit_bytes:
            return None
        process_memory.trim()
        grown_bytes = process_memory.process_bytes() - self._base_bytes
        if grown_bytes <= self._limit_bytes:
            return None
        return "memory", f"the worker grew by {grown_bytes >> 20} MiB; at most {self._limit_bytes >> 20} MiB may"
