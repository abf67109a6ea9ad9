"""The ledger: which models are resident, what they take, who uses them. Imports no runtime and does no I/O.

Bytes are charged before a load begins, corrected when it is measured, and stay charged until they are seen to be back.
A model on a line is claimed by it, a model under a frame is leased, an announced one is reserved; none of them can be
released. Which of the others goes is the eviction policy's matter.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final, Generic

from agent.inference.memory.cache_entry import Closable, Entry, Held, Row
from agent.messages.references import ModelVersion

__all__ = ["Cache", "Closable", "Entry", "EvictionCandidates", "Held", "Row"]

_NOBODY: Final[Mapping[str, float]] = {}


@dataclass(frozen=True)
class EvictionCandidates(Generic[Held]):
    """What a load would find: how many bytes it is short of, and what could go.

    `standby`: nobody uses or reserves these. `leave`: these serve only lines that would take them off for the load.
    `announced`: these are reserved, but only for such lines. `kept`: the rest that is resident. Some of it may be gone
    or in use by the time that somebody acts on it.
    """

    short_bytes: int
    standby: tuple[Entry[Held], ...]
    leave: tuple[Entry[Held], ...]
    announced: tuple[Entry[Held], ...]
    kept: tuple[Entry[Held], ...]


class Cache(Generic[Held]):
    """Models by version within `budget_bytes`. Every method may be called from any thread, and returns at once.

    `changed` is called after each change, without the lock; `clock` gives monotonic seconds. Invariants: bytes are
    never negative; `charge` never brings the sum over the budget, only `measured` may, by what a model was measured
    above its prediction.
    """

    def __init__(
        self, budget_bytes: int, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.budget_bytes: Final = budget_bytes
        self._changed: Final = changed
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._entries: Final[list[Entry[Held]]] = []

    @property
    def used_bytes(self) -> int:
        """What is charged now."""
        with self._lock:
            return self._used()

    def rows(self) -> tuple[Row, ...]:
        """Read the ledger, the model used last first."""
        with self._lock:
            rows = [
                Row(e.version.reference, e.bytes, e.state, e.last_use_ns, tuple(sorted(e.reservations)))
                for e in self._entries
            ]
        return tuple(sorted(rows, key=lambda row: -row.last_use_ns))

    def serving(self) -> set[str]:
        """Return the lines that a model serves."""
        with self._lock:
            return {line for entry in self._entries for line in entry.serving}

    def claim(self, version: ModelVersion, line: str) -> Entry[Held] | None:
        """Look up a resident model and keep it for `line`, in one step; None where it is not resident.

        The line's reservation of it ends: the changeover that it was kept for has come.
        """
        with self._lock:
            entry = self._find(version)
            if entry is None or entry.phase != "resident":
                return None
            entry.claims.add(line)
            entry.reservations.pop(line, None)
        self._changed()
        return entry

    def activate(self, line: str, before: Entry[Held] | None, entry: Entry[Held]) -> None:
        """Note that `entry`, claimed, serves `line` now; the claim on the model before ends."""
        with self._lock:
            if line not in entry.claims:
                raise AssertionError(f"{entry.version.reference} serves {line}, which has no claim on it")
            entry.serving.add(line)
            if before is not None and before is not entry:
                self._end_claim(before, line)
        self._changed()

    def unclaim(self, entry: Entry[Held], line: str) -> None:
        """End a claim; without another one the model is on standby."""
        with self._lock:
            self._end_claim(entry, line)
        self._changed()

    def lease(self, entry: Entry[Held]) -> Held:
        """Keep a claimed model until `unlease`, and return it. One call a frame: tells nobody."""
        with self._lock:
            if entry.model is None or entry.phase != "resident":
                raise AssertionError(f"{entry.version.reference} was leased while {entry.state}")
            entry.leases += 1
            return entry.model

    def unlease(self, entry: Entry[Held]) -> None:
        """End one lease."""
        with self._lock:
            if entry.leases <= 0:
                raise AssertionError(f"{entry.version.reference} has no lease to end")
            entry.leases -= 1
            entry.last_use_ns = time.monotonic_ns()

    def reserve(self, version: ModelVersion, line: str, until_s: float) -> bool:
        """Keep a resident model for `line` until `until_s`, or a new end of that; False where it is not resident."""
        with self._lock:
            entry = self._find(version)
            if entry is None or entry.phase != "resident":
                return False
            entry.reservations[line] = until_s
        self._changed()
        return True

    def unreserve(self, version: ModelVersion, line: str) -> None:
        """End a reservation, if there is one."""
        with self._lock:
            entry = self._find(version)
            had = entry is not None and entry.reservations.pop(line, None) is not None
        if had:
            self._changed()

    def expire(self) -> float | None:
        """End reservations whose time is over; returns the seconds until the next one ends, None without any."""
        with self._lock:
            now_s, had = self._clock(), 0
            for entry in self._entries:
                over = [line for line, until_s in entry.reservations.items() if until_s <= now_s]
                for line in over:
                    del entry.reservations[line]
                had += len(over)
            ends_s = [until_s for entry in self._entries for until_s in entry.reservations.values()]
        if had:
            self._changed()
        return max(0.0, min(ends_s) - now_s) if ends_s else None

    def standing(self, needed_bytes: int, leaving: Collection[str]) -> EvictionCandidates[Held]:
        """Say what could go so that `needed_bytes` more fit, where the lines in `leaving` would give up their model."""
        with self._lock:
            resident = [entry for entry in self._entries if entry.phase == "resident"]
            lines = set(leaving)
            standby = tuple(e for e in resident if e.is_evictable)
            theirs = [e for e in resident if e not in standby and e.claims <= lines and e.reservations.keys() <= lines]
            leave = tuple(e for e in theirs if e.claims)
            announced = tuple(e for e in theirs if not e.claims and not e.leases)
            kept = tuple(e for e in resident if e not in standby and e not in leave and e not in announced)
            short_bytes = self._used() + needed_bytes - self.budget_bytes
            return EvictionCandidates(short_bytes, standby, leave, announced, kept)

    def charge(self, version: ModelVersion, predicted_bytes: int) -> Entry[Held] | None:
        """Charge a load before it begins; None where it does not fit, or the version is in the ledger already."""
        predicted_bytes = max(0, predicted_bytes)
        with self._lock:
            if self._find(version) or self._used() + predicted_bytes > self.budget_bytes:
                return None
            entry: Entry[Held] = Entry(version, predicted_bytes, time.monotonic_ns(), predicted_bytes)
            self._entries.append(entry)
        self._changed()
        return entry

    def measured(self, entry: Entry[Held], measured_bytes: int) -> int:
        """Correct a loading model's charge; returns by how much the budget is exceeded now (0: it fits)."""
        with self._lock:
            entry.bytes = max(0, measured_bytes)
            excess = self._used() - self.budget_bytes
        self._changed()
        return max(0, excess)

    def loaded(
        self,
        entry: Entry[Held],
        model: Held,
        claims: Collection[str],
        reservations: Mapping[str, float] = _NOBODY,
        reload_ms: float = 0.0,
    ) -> None:
        """Make a proven model resident: claimed by those who wait for it, reserved for those who announced it."""
        with self._lock:
            if entry.phase != "loading":
                raise AssertionError(f"{entry.version.reference} was loaded while {entry.state}")
            entry.model, entry.phase = model, "resident"
            entry.claims.update(claims)
            entry.reservations.update(reservations)
            entry.reload_ms, entry.resident_since_s = reload_ms, self._clock()
            entry.last_use_ns = time.monotonic_ns()
        self._changed()

    def begin_release(self, entry: Entry[Held]) -> Held | None:
        """Take a standby model out of use and return it for closing; None where somebody uses or reserves it."""
        with self._lock:
            if not entry.is_evictable:
                return None
            entry.phase = "releasing"
            model, entry.model = entry.model, None
        self._changed()
        return model

    def abandon(self, entry: Entry[Held]) -> None:
        """Note that a load failed: what it took is on its way back."""
        with self._lock:
            if entry.phase == "loading":
                entry.phase = "releasing"
        self._changed()

    def returned(self, entry: Entry[Held], returned_bytes: int) -> int:
        """Take bytes that were seen to be back off the charge; returns what stays charged. At 0 the entry is gone."""
        with self._lock:
            if entry.phase != "releasing":
                raise AssertionError(f"{entry.version.reference} gave bytes back while {entry.state}")
            entry.bytes -= min(entry.bytes, max(0, returned_bytes))
            if not entry.bytes and entry in self._entries:
                self._entries.remove(entry)
        self._changed()
        return entry.bytes

    def _find(self, version: ModelVersion) -> Entry[Held] | None:
        """Return the entry that is or will be usable; one whose bytes are on their way back is not."""
        return next((e for e in self._entries if e.version == version and e.phase != "releasing"), None)

    def _end_claim(self, entry: Entry[Held], line: str) -> None:
        entry.claims.discard(line)
        entry.serving.discard(line)
        entry.last_use_ns = time.monotonic_ns()

    def _used(self) -> int:
        return sum(entry.bytes for entry in self._entries)
