"""Compares the GPU memory that the workers account for with what driver and kernel report; for control's loop alone.

A difference only raises an alert, because the driver also counts its own memory, and the kernel that of all programs.
"""

from collections.abc import Callable, Collection
from typing import Final

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading
from agent.messages.children import CacheDecided, CacheState, MemoryKept
from agent.settings import DEFAULT_GROUP

_LOOK_INTERVAL_S: Final = 5.0
_LASTS_S: Final = 30.0
"""A difference must last this long, because readings are older than the worker's report."""
_LEAST_BYTES: Final = 256 << 20
"""Largest difference without an alert: kernels and workspaces that a runtime loads late."""
_LEAST_SHARED_BYTES: Final = 1 << 30
"""The same where the GPU shares the processor's memory, in which other programs come and go."""
_LEAST_SHARE: Final = 0.1
_UNOWNED: Final = "no model (GPU memory)"
_KILLED: Final = "a killed worker"


class MemoryCheck:
    """Reports memory that did not come back: of unloaded models, by the worker, or of no model, by readings."""

    def __init__(self, decide: Callable[[MemoryKept], None]) -> None:
        self._decide: Final = decide
        self._states: Final[dict[str, CacheState]] = {}
        self._changed_s = 0.0
        self._kept: Final[dict[str, MemoryKept]] = {}
        self._unowned_bytes = 0
        self._killed_bytes = 0
        self._usual_bytes: int | None = None
        """Least difference so far, taken for the driver's and other programs' memory; None: not compared yet."""
        self._odd_since_s: float | None = None
        self._look_due_s = 0.0

    def told(self, message: CacheState | CacheDecided | MemoryKept, now_s: float, group: str = DEFAULT_GROUP) -> None:
        """Record a message of a group's worker about its cache; memory that did not come back is reported at once."""
        match message:
            case CacheState():
                before = self._states.get(group)
                if before is None or before.device_used_bytes != message.device_used_bytes:
                    self._changed_s = now_s
                self._states[group] = message
            case MemoryKept():
                self._kept[group] = message
                self._report()

    def worker_lost(self, group: str = DEFAULT_GROUP) -> None:
        """Forget a group's worker, whose memory is returned."""
        self._usual_bytes, self._odd_since_s, self._unowned_bytes = None, None, 0
        self._states.pop(group, None)
        self._kept.pop(group, None)
        self._report()

    def killed(self, held_bytes: int) -> None:
        """Record the bytes that killed workers hold which do not end; a change is reported at once."""
        if held_bytes != self._killed_bytes:
            self._killed_bytes = held_bytes
            self._report()

    def tick(self, now_s: float, reading: Reading, memory: HostReading | None, worker_pids: Collection[int]) -> None:
        """Compare every 5 s, unless the workers' figures are estimates or have just changed."""
        if now_s < self._look_due_s:
            return
        self._look_due_s = now_s + _LOOK_INTERVAL_S
        states = self._states.values()
        if not states or not all(map(_is_settled, states)) or now_s - self._changed_s < _LOOK_INTERVAL_S:
            return
        known_bytes = sum(state.device_used_bytes for state in states)
        has_own_memory = any(state.pools is not None for state in states)
        if has_own_memory:
            beyond_bytes = _beyond_of_gpu(known_bytes, reading, worker_pids)
        else:
            beyond_bytes = _beyond_of_all(known_bytes, memory)
        if beyond_bytes is None:
            return
        self._usual_bytes = min(beyond_bytes, beyond_bytes if self._usual_bytes is None else self._usual_bytes)
        odd_bytes = beyond_bytes - self._usual_bytes
        least_bytes = _LEAST_BYTES if has_own_memory else _LEAST_SHARED_BYTES
        if odd_bytes <= max(least_bytes, int(known_bytes * _LEAST_SHARE)):
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
        killed = (_KILLED,) if self._killed_bytes else ()
        models = tuple(model for kept in self._kept.values() for model in kept.models)
        kept_bytes = sum(kept.bytes for kept in self._kept.values())
        self._decide(MemoryKept(kept_bytes + self._unowned_bytes + self._killed_bytes, (*models, *unowned, *killed)))


def _is_settled(state: CacheState) -> bool:
    """Return True where the worker's figures are no estimates, and no model is being loaded or unloaded."""
    return state.is_counted and all(model.state not in {"loading", "releasing"} for model in state.models)


def _beyond_of_gpu(known_bytes: int, reading: Reading, worker_pids: Collection[int]) -> int | None:
    """Return what the workers hold of a GPU's own memory beyond `known_bytes`; None without a reading of each."""
    held = reading.gpu.processes if reading.gpu is not None else {}
    if not worker_pids or not all(pid in held for pid in worker_pids):
        return None
    return sum(held[pid] for pid in worker_pids) - known_bytes


def _beyond_of_all(known_bytes: int, memory: HostReading | None) -> int | None:
    """Return the used memory that no process of ours holds, beyond `known_bytes`; None without a reading."""
    if memory is None or not known_bytes:
        return None
    return memory.total_bytes - memory.free_bytes - sum(memory.processes.values()) - known_bytes
