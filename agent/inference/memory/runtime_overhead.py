"""Bytes that belong to a runtime, and to no model: kernels, threads and caches that it makes once and keeps."""

import threading
from typing import Final

RUNTIMES_OWN_BYTES: Final = 64 << 20
"""What one runtime may come to keep over all loads, apart from what its very first load brought."""
_SHARED_BYTES: Final = {"onnxruntime": 192 << 20}
"""The same for a runtime whose models share an arena: what one model's frames needed serves another's, and stays."""


class RuntimeOverhead:
    """What each backend may still keep; bounded, so that a leak is seen for what it is. Any thread."""

    def __init__(self) -> None:
        self._kept_bytes: Final[dict[str, int]] = {}
        self._lock: Final = threading.Lock()

    def left_bytes(self, backend: str) -> int:
        """Return what a backend may still keep."""
        with self._lock:
            return _limit_bytes(backend) - self._kept_bytes.get(backend, 0)

    def keep(self, backend: str, kept_bytes: int) -> None:
        """Note bytes that stay with the runtime, or, below 0, that came back from it."""
        with self._lock:
            kept = self._kept_bytes.get(backend, 0) + kept_bytes
            self._kept_bytes[backend] = max(0, min(_limit_bytes(backend), kept))


def _limit_bytes(backend: str) -> int:
    return _SHARED_BYTES.get(backend, RUNTIMES_OWN_BYTES)
