"""Record of the models in memory: the bytes charged for each, and its users. Imports no runtime and does no I/O.

Bytes are charged before a load starts, corrected when it is measured, and stay charged until a measurement shows that
they are free again. Host and GPU memory are two pools, or one where they share it. A line claims its model, a frame
leases it, an announcement reserves it; such models cannot be unloaded. The eviction policy chooses among the others.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, Generic

from agent.inference.memory.cache_entry import (
    NO_DEVICE,
    DeviceCharge,
    Entry,
    EvictionCandidates,
    Held,
    Origin,
    Row,
    grouped,
    in_use,
)
from agent.inference.memory.pools import NOTHING, Amount, Budget
from agent.messages.references import ModelVersion

__all__ = ["Cache", "DeviceCharge", "Entry", "EvictionCandidates", "Held", "Origin", "Row"]

_NOBODY: Final[Mapping[str, float]] = {}
_UNKNOWN: Final = Origin()


class Cache(Generic[Held]):
    """Record of the models in memory and the bytes charged for each, within a budget for each memory pool.

    Bytes are never negative. The sum exceeds the budget only by what a model was measured above its prediction. GPU
    memory that a runtime's allocator holds beyond its models' is charged to the runtime, and counts as well.

    Threading: every method may be called from any thread; all but `wait_drained` return at once.
    """

    def __init__(
        self,
        budget: Budget | int,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        guaranteed: Budget | None = None,
    ) -> None:
        """Store the arguments; `changed` is called after each change, without the lock.

        An int as `budget` is the bytes of the only pool. `clock` returns monotonic seconds. `guaranteed` limits the
        models in use, because only what nobody uses can be given back; None: the budget is never lowered.
        """
        self.budget = Budget(budget) if isinstance(budget, int) else budget
        self.guaranteed: Final = guaranteed
        self._changed: Final = changed
        self._clock: Final = clock
        self._lock: Final = threading.Lock()
        self._drained: Final = threading.Condition(self._lock)
        self._entries: Final[list[Entry[Held]]] = []
        self._runtimes_device_bytes = 0

    @property
    def used(self) -> Amount:
        """Bytes of host and of GPU memory that are charged now, including those charged to the runtimes."""
        with self._lock:
            return self._used()

    @property
    def used_bytes(self) -> int:
        """Bytes that are charged now, in host and GPU memory together."""
        return self.used.total_bytes

    def limit_to(self, limit: Budget, *, keep_used: bool) -> None:
        """Replace the budget; with `keep_used` it is no less than the bytes charged now."""
        with self._lock:
            self.budget = limit.at_least(self._used()) if keep_used else limit
        self._changed()

    def rows(self) -> tuple[Row, ...]:
        """Return one row for each model that is charged, the most recently used first."""
        return self.statement()[0]

    def statement(self) -> tuple[tuple[Row, ...], Amount, int]:
        """Return, read at one moment, what `rows` and `used` return, and the GPU bytes charged to the runtimes."""
        with self._lock:
            used, runtimes_bytes = self._used(), max(0, self._runtimes_device_bytes)
            rows = [
                Row(e.version.reference, e.charge, e.state, e.last_use_ns, e.reserved_for, e.is_counted)
                for e in self._entries
            ]
        return tuple(sorted(rows, key=lambda row: -row.last_use_ns)), used, runtimes_bytes

    def account(self, held_device_bytes: int) -> None:
        """Charge the runtimes for GPU memory that their allocators hold beyond that of their models.

        `held_device_bytes`: all that these allocators hold now.
        """
        with self._lock:
            models_bytes = sum(entry.device_bytes for entry in self._entries if entry.is_counted)
            before_bytes, self._runtimes_device_bytes = self._runtimes_device_bytes, held_device_bytes - models_bytes
            had = before_bytes != self._runtimes_device_bytes
        if had:
            self._changed()

    def serving(self) -> set[str]:
        """Return the names of the lines that a model serves now."""
        with self._lock:
            return {line for entry in self._entries for line in entry.serving}

    def claim(self, version: ModelVersion, line: str) -> Entry[Held] | None:
        """Claim a resident model for `line`, atomically; return None where the model is not resident.

        The line's reservation of the model ends, because the changeover that it was kept for has come.
        """
        with self._lock:
            entry = self._find(version)
            if entry is None or entry.phase != "resident":
                return None
            entry.claims.add(line)
            entry.is_preloaded = entry.is_for_requests = False
            entry.reservations.pop(line, None)
        self._changed()
        return entry

    def activate(self, line: str, before: Entry[Held] | None, entry: Entry[Held]) -> None:
        """Record that `entry`, which `line` has claimed, serves the line now, and end its claim on `before`.

        `before` is None where no model served the line.
        """
        with self._lock:
            if line not in entry.claims:
                raise AssertionError(f"{entry.version.reference} serves {line}, which has no claim on it")
            entry.serving.add(line)
            if before is not None and before is not entry:
                self._end_claim(before, line)
        self._changed()

    def unclaim(self, entry: Entry[Held], line: str) -> None:
        """End the line's claim; a model without claims, leases and reservations may be evicted."""
        with self._lock:
            self._end_claim(entry, line)
        self._changed()

    def lease(self, entry: Entry[Held]) -> Held:
        """Return the entry's model for one frame, and keep it in memory until `unlease`; `changed` is not called."""
        with self._lock:
            return self._lease(entry)

    def unlease(self, entry: Entry[Held], *, is_idle: bool = False) -> None:
        """End one lease; a change only where it is the last one on a model that its lines left, and that drained."""
        with self._lock:
            assert entry.leases > 0, f"{entry.version.reference} has no lease to end"
            entry.leases -= 1
            entry.idle_leases, entry.last_use_ns = entry.idle_leases - is_idle, time.monotonic_ns()
            if not entry.leases:
                self._drained.notify_all()
            was_left, entry.is_left = entry.is_left, entry.is_left and bool(entry.leases)
        if was_left and not entry.is_left and not entry.claims:
            self._changed()

    def wait_drained(self, entries: Collection[Entry[Held]], timeout_s: float) -> bool:
        """Wait until no picture is in flight in a model that no line claims; return False at the timeout."""
        with self._drained:
            return self._drained.wait_for(lambda: all(e.claims or not e.leases for e in entries), timeout_s)

    @contextmanager
    def borrowed(self, version: ModelVersion, *, is_request: bool = False) -> Iterator[Held | None]:
        """Run the block with a lease on a version's model, which is yielded.

        Yields None where the model is not resident, or left by its lines, because such a model may be evicted; a
        request infers it until it is.
        """
        with self._lock:
            entry = self._find(version)
            if entry is not None and (entry.phase != "resident" or not (is_request or entry.is_wanted)):
                entry = None
            model = self._lease(entry, is_idle=not is_request) if entry is not None else None
        try:
            yield model
        finally:
            if entry is not None:
                self.unlease(entry, is_idle=not is_request)

    def condemn(self, version: ModelVersion, why: str) -> None:
        """Make a resident model fail all frames with `why`, and admit no new claim; lines keep their present claims."""
        with self._lock:
            entry = self._find(version)
            if entry is not None and entry.model is not None:
                entry.is_condemned = True
                entry.model.refuse(why)

    def versions(self, *, only_condemned: bool = False) -> set[ModelVersion]:
        """Return all versions that are charged now, in whichever state; `only_condemned`: those found wrong."""
        with self._lock:
            return {entry.version for entry in self._entries if entry.is_condemned or not only_condemned}

    @property
    def is_loading(self) -> bool:
        """Return True while a model loads."""
        with self._lock:
            return any(entry.phase == "loading" for entry in self._entries)

    def reserve(self, version: ModelVersion, line: str, until_s: float) -> bool:
        """Reserve a resident model for `line` until `until_s` (monotonic); this replaces an earlier end.

        Returns False where the model is not resident.
        """
        with self._lock:
            entry = self._find(version)
            if entry is None or entry.phase != "resident":
                return False
            entry.reservations[line] = until_s
            entry.is_preloaded = entry.is_for_requests = False
        self._changed()
        return True

    def keep_for_requests(self, version: ModelVersion, until_s: float) -> bool:
        """Keep a resident model from being unloaded for other requests until `until_s` (monotonic), 0 for no longer.

        Returns False where the model is not resident. A line may unload it all the same.
        """
        with self._lock:
            entry = self._find(version)
            if entry is None or entry.phase != "resident":
                return False
            entry.requests_until_s = max(entry.requests_until_s, until_s) if until_s else 0.0
        return True

    def resident(self, version: ModelVersion) -> Entry[Held] | None:
        """Return the entry of a resident version; None where it is not resident."""
        with self._lock:
            entry = self._find(version)
            return entry if entry is not None and entry.phase == "resident" else None

    def left_by_requests(self) -> tuple[Entry[Held], ...]:
        """Return the models that were loaded for requests, and that nobody wants any more."""
        with self._lock:
            left = (one for one in self._entries if one.is_for_requests and one.is_evictable)
            return tuple(one for one in left if one.requests_until_s <= self._clock())

    def unreserve(self, version: ModelVersion, line: str) -> None:
        """End the line's reservation of a version, if it has one."""
        with self._lock:
            entry = self._find(version)
            had = entry is not None and entry.reservations.pop(line, None) is not None
        if had:
            self._changed()

    def expire(self) -> float | None:
        """End expired reservations; return the seconds until the next one expires, or None without reservations."""
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

    def eviction_candidates(self, needed: Amount, leaving: Collection[str]) -> EvictionCandidates[Held]:
        """Group the resident models by whether they could be evicted for a load of `needed` bytes.

        `leaving`: the lines that would deactivate their models for the load.
        """
        with self._lock:
            lines, short = set(leaving), self.budget.shortage(self._used() + needed)
            own = self.guaranteed
            beyond = NOTHING if own is None else own.shortage(in_use(self._entries, lines) + needed)
            return grouped([one for one in self._entries if one.phase == "resident"], lines, short, beyond)

    def charge(self, version: ModelVersion, predicted: Amount | int, origin: Origin = _UNKNOWN) -> Entry[Held] | None:
        """Charge a load's predicted bytes before it starts, and return its new entry.

        Returns None where the version is loading or resident already, or where either pool lacks room. An int as
        `predicted` is bytes of host memory.
        """
        amount = Amount(predicted) if isinstance(predicted, int) else predicted
        amount = Amount(max(0, amount.host_bytes), max(0, amount.device_bytes))
        with self._lock:
            if self._find(version) or self.budget.shortage(self._used() + amount).is_short:
                return None
            now_ns = time.monotonic_ns()
            entry: Entry[Held] = Entry(version, amount.host_bytes, now_ns, amount, origin, amount.device_bytes)
            self._entries.append(entry)
        self._changed()
        return entry

    def measured(
        self, entry: Entry[Held], measured_bytes: int, grown_bytes: int = 0, device: DeviceCharge = NO_DEVICE
    ) -> int:
        """Replace a load's predicted charge by the measured one; return the bytes by which the budget is exceeded.

        `measured_bytes`: the model's host memory. `device`: its GPU memory. `grown_bytes`: growth of the process's host
        memory during the load.
        """
        with self._lock:
            entry.bytes = max(0, measured_bytes)
            entry.device_bytes, entry.is_counted = max(0, device.bytes), device.is_counted
            entry.grown_bytes = grown_bytes
            excess = self.budget.shortage(self._used())
        self._changed()
        return excess.missing_bytes

    def loaded(  # noqa: PLR0913 - who has asked for the model, spelt out
        self,
        entry: Entry[Held],
        model: Held,
        claims: Collection[str],
        reservations: Mapping[str, float] = _NOBODY,
        reload_ms: float = 0.0,
        *,
        is_preloaded: bool = False,
        requests_until_s: float = 0.0,
    ) -> None:
        """Make a model that passed its checks resident, with the lines that claim it and those that reserved it.

        `reservations`: the end of each line's reservation (monotonic, s). `reload_ms`: duration of the load with its
        checks. `is_preloaded`: no line has asked for it. `requests_until_s`: the end of what keeps it for requests.
        """
        with self._lock:
            if entry.phase != "loading":
                raise AssertionError(f"{entry.version.reference} was loaded while {entry.state}")
            entry.model, entry.phase = model, "resident"
            entry.claims.update(claims)
            entry.reservations.update(reservations)
            entry.is_preloaded, entry.requests_until_s = is_preloaded, requests_until_s
            entry.is_for_requests = bool(requests_until_s) and not (claims or reservations)
            entry.reload_ms, entry.resident_since_s = reload_ms, self._clock()
            entry.last_use_ns = time.monotonic_ns()
        self._changed()

    def begin_release(self, entry: Entry[Held]) -> Held | None:
        """Mark an unused model as being unloaded, and return it to be closed; None where it is in use or reserved."""
        with self._lock:
            if not entry.is_evictable:
                return None
            entry.phase = "releasing"
            model, entry.model = entry.model, None
        self._changed()
        return model

    def abandon(self, entry: Entry[Held]) -> None:
        """Record that a load failed; its bytes stay charged until `returned`."""
        with self._lock:
            if entry.phase == "loading":
                entry.phase = "releasing"
        self._changed()

    def returned(self, entry: Entry[Held], returned_bytes: int) -> int:
        """Subtract freed host bytes from an unloaded model's charge; return the bytes that stay charged.

        The entry is removed at 0.
        """
        with self._lock:
            if entry.phase != "releasing":
                raise AssertionError(f"{entry.version.reference} gave bytes back while {entry.state}")
            entry.bytes -= min(entry.bytes, max(0, returned_bytes))
            if not entry.bytes and entry in self._entries:
                self._entries.remove(entry)
        self._changed()
        return entry.bytes

    @staticmethod
    def _lease(entry: Entry[Held], *, is_idle: bool = False) -> Held:
        if entry.model is None or entry.phase != "resident":
            raise AssertionError(f"{entry.version.reference} was leased while {entry.state}")
        entry.leases += 1
        entry.idle_leases += is_idle
        return entry.model

    def keep_on_device(self, entry: Entry[Held], kept_bytes: int) -> None:
        """Charge an unloaded model only for GPU memory that its allocator still holds; at 0 its entry is removed."""
        with self._lock:
            if entry.phase != "releasing":
                raise AssertionError(f"{entry.version.reference} gave bytes back while {entry.state}")
            entry.bytes, entry.device_bytes, entry.is_counted = 0, kept_bytes, True
            if not kept_bytes and entry in self._entries:
                self._entries.remove(entry)
        self._changed()

    def _find(self, version: ModelVersion) -> Entry[Held] | None:
        """Return the entry of a version that is loading or resident, and not condemned; None without one."""
        return next(
            (e for e in self._entries if e.version == version and e.phase != "releasing" and not e.is_condemned), None
        )

    def _end_claim(self, entry: Entry[Held], line: str) -> None:
        entry.claims.discard(line)
        entry.serving.discard(line)
        entry.is_left = bool(entry.leases) and not entry.claims
        entry.last_use_ns = time.monotonic_ns()

    def _used(self) -> Amount:
        device_bytes = sum(entry.device_bytes for entry in self._entries) + self._runtimes_device_bytes
        return Amount(sum(entry.bytes for entry in self._entries), max(0, device_bytes))
