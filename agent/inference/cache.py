"""The ledger: which models are resident, what they take, who uses them. Imports no runtime and does no I/O.

Bytes are charged before a load begins, corrected when it is measured, and stay charged until they are seen to be back.
A model on a line is claimed by it, a model under a frame is leased; neither can be released.
"""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final, Generic, Literal, Protocol, TypeVar

from agent.messages.references import ModelVersion

Phase = Literal["loading", "resident", "releasing"]  # how far an entry is; it only moves forward
State = Literal["loading", "resident", "active", "draining", "releasing"]


class Closable(Protocol):
    """What the ledger knows of a model."""

    def close(self) -> None:
        """Drop everything."""


Held = TypeVar("Held", bound=Closable)


@dataclass(eq=False)
class Entry(Generic[Held]):
    """One model in the ledger. Owned and changed by the cache alone, under its lock.

    `claims` are the lines that it serves or is about to serve; `leases` counts the frames that it is inferring.
    """

    version: ModelVersion
    bytes: int
    last_use_ns: int
    phase: Phase = "loading"
    model: Held | None = None
    claims: set[str] = field(default_factory=set)
    leases: int = 0

    @property
    def state(self) -> State:
        """The word that the `cache` topic carries."""
        if self.phase != "resident":
            return self.phase
        if self.claims:
            return "active"
        return "draining" if self.leases else "resident"

    @property
    def is_evictable(self) -> bool:
        """Say whether nobody would miss it."""
        return self.phase == "resident" and not self.claims and not self.leases


@dataclass(frozen=True)
class Row:
    """One entry as it was when the ledger was read; `last_use_ns` is CLOCK_MONOTONIC."""

    reference: str
    bytes: int
    state: State
    last_use_ns: int


@dataclass(frozen=True)
class Plan(Generic[Held]):
    """What makes room: standby models to evict, and active ones to take off their lines first."""

    evict: tuple[Entry[Held], ...] = ()
    leave: tuple[Entry[Held], ...] = ()


class Cache(Generic[Held]):
    """Models by version within `budget_bytes`. Every method may be called from any thread, and returns at once.

    `changed` is called after each change, without the lock. Invariants: bytes are never negative; a reservation
    never brings the sum over the budget, only `loaded` may, by what a model was measured above its prediction.
    """

    def __init__(self, budget_bytes: int, changed: Callable[[], None]) -> None:
        self.budget_bytes: Final = budget_bytes
        self._changed: Final = changed
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
            rows = [Row(e.version.reference, e.bytes, e.state, e.last_use_ns) for e in self._entries]
        return tuple(sorted(rows, key=lambda row: -row.last_use_ns))

    def claim(self, version: ModelVersion, line: str) -> Entry[Held] | None:
        """Look up a resident model and keep it for `line`, in one step; None where it is not resident."""
        with self._lock:
            entry = self._find(version)
            if entry is None or entry.phase != "resident":
                return None
            entry.claims.add(line)
        self._changed()
        return entry

    def unclaim(self, entry: Entry[Held], line: str) -> None:
        """End a claim; without another one the model is on standby."""
        with self._lock:
            entry.claims.discard(line)
            entry.last_use_ns = time.monotonic_ns()
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

    def plan(self, needed_bytes: int, leaving: Collection[str]) -> Plan[Held] | None:
        """Say what to release so that `needed_bytes` fit; None where nothing makes them fit.

        Standby models go first, the one used longest ago first. Only if all of them are not enough, models whose
        every line is among `leaving` go too: then those first, so that no more is evicted than must be.
        """
        with self._lock:
            short = self._used() + needed_bytes - self.budget_bytes
            standby = sorted((e for e in self._entries if e.is_evictable), key=lambda e: e.last_use_ns)
            if short <= sum(entry.bytes for entry in standby):
                return Plan(evict=_enough(standby, short))
            leave = tuple(e for e in self._entries if e.claims and e.claims <= set(leaving))
            rest = short - sum(entry.bytes for entry in leave)
            if rest > sum(entry.bytes for entry in standby):
                return None
            return Plan(evict=_enough(standby, rest), leave=leave)

    def reserve(self, version: ModelVersion, predicted_bytes: int) -> Entry[Held] | None:
        """Charge a load before it begins; None where it does not fit, or the version is in the ledger already."""
        with self._lock:
            if self._find(version) or self._used() + predicted_bytes > self.budget_bytes:
                return None
            entry: Entry[Held] = Entry(version, max(0, predicted_bytes), time.monotonic_ns())
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

    def loaded(self, entry: Entry[Held], model: Held, claims: Collection[str]) -> None:
        """Make a proven model resident, claimed by those who wait for it."""
        with self._lock:
            if entry.phase != "loading":
                raise AssertionError(f"{entry.version.reference} was loaded while {entry.state}")
            entry.model, entry.phase = model, "resident"
            entry.claims.update(claims)
            entry.last_use_ns = time.monotonic_ns()
        self._changed()

    def begin_release(self, entry: Entry[Held]) -> Held | None:
        """Take a standby model out of use and return it for closing; None where somebody uses it."""
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

    def _used(self) -> int:
        return sum(entry.bytes for entry in self._entries)


def _enough(standby: list[Entry[Held]], short_bytes: int) -> tuple[Entry[Held], ...]:
    chosen = []
    for entry in standby:
        if short_bytes <= 0:
            break
        chosen.append(entry)
        short_bytes -= entry.bytes
    return tuple(chosen)
