"""Accounts for memory that a runtime allocates once and keeps: kernels, threads and caches."""

import threading
from typing import Final

from agent.inference.memory.footprints import Footprint, tolerance_bytes

RUNTIMES_OWN_BYTES: Final = 64 << 20
"""Limit of the memory that one runtime may keep over all loads, beyond that of its first load."""
_SHARED_BYTES: Final = {"onnxruntime": 192 << 20}
"""Higher limits, by backend, for runtimes with an arena that keeps one model's buffers for another model."""


class RuntimeOverhead:
    """Counter of the bytes that each backend keeps after unloads, limited so that a leak is charged to its model.

    Threading: any thread.
    """

    def __init__(self) -> None:
        self._kept_bytes: Final[dict[str, int]] = {}
        self._lock: Final = threading.Lock()

    def left_bytes(self, backend: str) -> int:
        """Return the bytes that a backend may still keep before its limit is reached."""
        with self._lock:
            return _limit_bytes(backend) - self._kept_bytes.get(backend, 0)

    def own_bytes(self, backend: str, grown_bytes: int, file_bytes: int, known: Footprint | None) -> int:
        """Return the model's own part of a load's `grown_bytes`; the rest is kept by its backend, within the limit.

        The part is at least `file_bytes`, because a device's memory may be invisible; less where an unload confirmed
        that. `known` is the model's last footprint, None without one.
        """
        if known is None or not known.is_final:
            return max(grown_bytes, file_bytes)
        own_bytes = max(grown_bytes, min(file_bytes, known.bytes))
        excess_bytes = own_bytes - known.bytes
        if abs(excess_bytes) <= tolerance_bytes(known.bytes):
            return known.bytes
        if 0 < excess_bytes <= self.left_bytes(backend):
            self.keep(backend, excess_bytes)
            return known.bytes
        return own_bytes

    def keep(self, backend: str, kept_bytes: int) -> None:
        """Add `kept_bytes` to what a backend keeps; negative for memory that came back."""
        with self._lock:
            kept = self._kept_bytes.get(backend, 0) + kept_bytes
            self._kept_bytes[backend] = max(0, min(_limit_bytes(backend), kept))


def _limit_bytes(backend: str) -> int:
    return _SHARED_BYTES.get(backend, RUNTIMES_OWN_BYTES)
