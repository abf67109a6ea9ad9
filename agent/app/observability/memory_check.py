"""Compares the GPU memory that the worker accounts for with what driver and kernel report; for control's loop alone.

A difference only raises an alert, because the driver also counts its own memory, and the kernel that of all programs.
"""

from collections.abc import Callable
from typing import Final

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading
from agent.messages.children import CacheDecided, CacheState, MemoryKept

_LOOK_INTERVAL_S: Final = 5.0
_LASTS_S: Final = 30.0
"""A difference must last this long, because readings are older than the worker's report."""
_LEAST_BYTES: Final = 256 << 20
"""Largest difference without an alert: kernels and workspaces that a runtime loads late."""
_LEAST_SHARED_BYTES: Final = 1 << 30
"""The same where the GPU shares the processor's memory, in which other programs come and go."""
_LEAST_SHARE: Final = 0.1
_UNOWNED: Final = "no model (GPU memory)"


class MemoryCheck:
    """Reports memory that did not come back: of unloaded models, by the worker, or of no model, by readings."""

    def __init__(self, decide: Callable[[MemoryKept], None]) -> None:
        self._decide: Final = decide
        self._state: CacheState | None = None
        self._changed_s = 0.0
        self._kept = MemoryKept(0, ())
        self._unowned_bytes = 0
        self._usual_bytes: int | None = None
        """Least difference so far, taken for the driver's and other programs' memory; None: not compared yet."""
        self._odd_since_s: float | None = None
        self._look_due_s = 0.0

    def told(self, message: CacheState | CacheDecided | MemoryKept, now_s: float) -> None:
        """Record a message of the worker about its cache; memory that did not come back is reported at once."""
        match message:
            case CacheState():
                if self._state is None or self._state.device_used_bytes != message.device_used_bytes:
                    self._changed_s = now_s
                self._state = message
            case MemoryKept():
                self._kept = message
                self._report()

    def worker_lost(self) -> None:
        """Forget the worker, whose memory is returned."""
        self._state = self._usual_bytes = self._odd_since_s = None
        self._kept, self._unowned_bytes = MemoryKept(0, ()), 0

    def tick(self, now_s: float, reading: Reading, memory: HostReading | None, worker_pid: int | None) -> None:
        """Compare every 5 s, unless the worker's figures are estimates or have just changed."""
        if now_s < self._look_due_s:
            return
        self._look_due_s = now_s + _LOOK_INTERVAL_S
        state = self._state
        if state is None or not _is_settled(state) or now_s - self._changed_s < _LOOK_INTERVAL_S:
            return
        beyond_bytes = _beyond(state, reading, memory, worker_pid)
        if beyond_bytes is None:
            return
        self._usual_bytes = min(beyond_bytes, beyond_bytes if self._usual_bytes is None else self._usual_bytes)
        odd_bytes = beyond_bytes - self._usual_bytes
        least_bytes = _LEAST_BYTES if state.pools is not None else _LEAST_SHARED_BYTES
        if odd_bytes <= max(least_bytes, int(state.device_used_bytes * _LEAST_SHARE)):
            self._odd_since_s, odd_bytes = None, 0
        elif self._odd_since_s is None:
            self._odd_since_s, odd_bytes = now_s, 0
        elif now_s - self._odd_since_s < _LASTS_S:
            odd_bytes = 0
        if bool(odd_bytes) != bool(self._unowned_bytes):
            self._unowned_bytes = odd_bytes
            self._report()

    def _report(self) -> None:
        unowned = (_UNOWNED,) if self._unowned_bytes else ()
        self._decide(MemoryKept(self._kept.bytes + self._unowned_bytes, (*self._kept.models, *unowned)))


def _is_settled(state: CacheState) -> bool:
    """Return True where the worker's figures are no estimates, and no model is being loaded or unloaded."""
    return state.is_counted and all(model.state not in {"loading", "releasing"} for model in state.models)


def _beyond(state: CacheState, reading: Reading, memory: HostReading | None, worker_pid: int | None) -> int | None:
    """Return the GPU memory in use beyond what the worker accounts for, in bytes; None without a reading.

    Counts the worker process on a GPU with its own memory, else all used memory that no process of ours holds.
    """
    if state.pools is not None:
        held_bytes = reading.gpu.processes.get(worker_pid or 0) if reading.gpu is not None else None
        return None if held_bytes is None else held_bytes - state.device_used_bytes
    if memory is None or not state.device_used_bytes:
        return None
    return memory.total_bytes - memory.free_bytes - sum(memory.processes.values()) - state.device_used_bytes
