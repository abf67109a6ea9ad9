"""The cache's entry for one model, its states, the row that reports it, and the entries that a load could evict."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, Generic, Literal, Protocol, TypeVar

from agent.inference.memory.pools import NOTHING, Amount
from agent.messages.payloads import CacheCandidate
from agent.messages.references import ModelVersion

Phase = Literal["loading", "resident", "releasing"]  # states of an entry, in their order
State = Literal["loading", "resident", "active", "pinned", "reserved", "preloaded", "draining", "releasing"]


class Closable(Protocol):
    """The methods of a model that the cache calls."""

    def refuse(self, why: str) -> None:
        """Make every later inference fail with the reason `why`; returns at once."""

    def close(self) -> None:
        """Free the model's memory."""


_CANDIDATES: Final = "/candidate"  # no line's name holds a slash

Held = TypeVar("Held", bound=Closable)


@dataclass(frozen=True)
class Origin:
    """The backend of a load, and the key of its remembered memory size, which an unload corrects."""

    backend: str = ""
    footprint_key: str = ""


@dataclass(frozen=True)
class DeviceCharge:
    """GPU memory that is charged for a model."""

    bytes: int
    is_counted: bool
    """True: the runtime's allocator counted the bytes; False: they are a guess that nothing can confirm."""


NO_DEVICE: Final = DeviceCharge(0, is_counted=False)


@dataclass(eq=False)
class Entry(Generic[Held]):
    """One model in the cache, from the start of its load until its memory is free again.

    Only the cache changes it, under its lock.
    """

    version: ModelVersion
    bytes: int
    """Bytes of host memory that are charged now."""
    last_use_ns: int
    """Time of the last use (monotonic, ns)."""
    predicted: Amount = NOTHING
    """Bytes that were charged before the load."""
    origin: Origin = Origin()
    device_bytes: int = 0
    """Bytes of GPU memory that are charged now."""
    is_counted: bool = False
    """True: the runtime's allocator counted the GPU memory; False: it is a guess."""
    grown_bytes: int = 0
    """Growth of the process's host memory during the load, which includes memory that the runtime keeps."""
    phase: Phase = "loading"
    model: Held | None = None
    claims: set[str] = field(default_factory=set)
    """Lines that the model serves or is about to serve."""
    serving: set[str] = field(default_factory=set)
    """Lines of `claims` that the model serves now."""
    reservations: dict[str, float] = field(default_factory=dict)
    """Lines that reserved the model, and names of their comparisons, with each reservation's end (monotonic, s)."""
    leases: int = 0
    """Number of frames that the model is inferring."""
    idle_leases: int = 0
    """Those of `leases` that are pictures of proofs and comparisons, which may be inferred at idle priority."""
    is_left: bool = False
    """Its last line left it while it was inferring, and it has inferred ever since; requests do not set this."""
    is_condemned: bool = False
    """Its answers were found wrong, so no line may claim it; it stays charged until it is released."""
    reload_ms: float = 0.0
    """Duration of the model's load with its checks."""
    resident_since_s: float = 0.0
    """Time at which the model became resident (monotonic, s)."""
    requests_until_s: float = 0.0
    """Requests keep the model from being unloaded for other requests until then (monotonic, s); lines go first."""
    is_for_requests: bool = False
    """It was loaded for requests, and no line has wanted it since."""
    is_preloaded: bool = False
    """It was loaded in idle time because it is likely, and no line has wanted it since."""

    @property
    def charge(self) -> Amount:
        """Return the bytes that are charged now."""
        return Amount(self.bytes, self.device_bytes)

    @property
    def total_bytes(self) -> int:
        """Return the bytes that are charged now, in host and GPU memory together."""
        return self.bytes + self.device_bytes

    @property
    def state(self) -> State:
        """State of the model, as the topic `cache` reports it.

        A lease changes the state only of a model without claims (`draining`), because leases come and go with each
        frame.
        """
        if self.phase != "resident":
            return self.phase
        if self.claims:
            return "active" if self.serving else "pinned"
        if self.is_preloaded:
            return "preloaded"
        if self.leases:
            return "draining"
        return "reserved" if self.reservations else "resident"

    @property
    def is_wanted(self) -> bool:
        """Return True where a line claims or reserved the model, or may want it next, as it was preloaded for that."""
        return bool(self.claims or self.reservations or self.is_preloaded)

    @property
    def is_evictable(self) -> bool:
        """Return True for a resident model without claims, leases and reservations."""
        return self.phase == "resident" and not self.claims and not self.leases and not self.reservations

    @property
    def reserved_for(self) -> tuple[str, ...]:
        """Lines that the model is reserved for, also to be compared on."""
        return lines_of(self.reservations)

    @property
    def is_tried(self) -> bool:
        """Return True for a model that is reserved for comparisons only."""
        return bool(self.reservations) and _are_candidates(self.reservations)

    def is_left_by(self, lines: set[str]) -> bool:
        """Return True for a resident model that nobody uses once these lines have left it."""
        is_reserved = bool(self.reservations) and not (self.is_tried and self.reservations.keys() <= lines)
        return self.phase == "resident" and self.claims <= lines and not is_reserved


@dataclass(frozen=True)
class Row:
    """Copy of one entry at the moment when the cache was read; `last_use_ns` is monotonic."""

    reference: str
    charge: Amount
    state: State
    last_use_ns: int
    reserved_for: tuple[str, ...] = ()
    is_counted: bool = False

    @property
    def bytes(self) -> int:
        """Charged bytes of host and GPU memory together."""
        return self.charge.total_bytes


@dataclass(frozen=True)
class EvictionCandidates(Generic[Held]):
    """The models that could make room for a load, at one moment; their states may change afterwards."""

    short: Amount
    """Bytes by which the load exceeds each pool's limit; negative where there is room."""
    standby: tuple[Entry[Held], ...]
    """Models that nobody uses or reserves."""
    leave: tuple[Entry[Held], ...]
    """Models that serve only lines that would deactivate them for the load, or that only infer a last picture."""
    announced: tuple[Entry[Held], ...]
    """Models that only such lines have reserved."""
    kept: tuple[Entry[Held], ...]
    """All other resident models."""
    unguaranteed: Amount = NOTHING
    """Bytes by which the models in use, with the load and without `leave`, exceed what the worker is guaranteed."""


@dataclass(frozen=True)
class LedgerView(Generic[Held]):
    """Copy of the cache's state for one decision: the eviction candidates, and the scores of the evictable models."""

    candidates: EvictionCandidates[Held]
    scores: list[CacheCandidate]


@dataclass(frozen=True)
class EvictionPlan(Generic[Held]):
    """The models to remove before a load fits the budget."""

    version: ModelVersion
    """The model to load."""
    view: LedgerView[Held]
    evict: tuple[Entry[Held], ...]
    """Standby models to evict."""
    leave: tuple[Entry[Held], ...] = ()
    """Models that serve only lines that wait for the load and deactivate them first, or that finish a last picture."""
    announced: tuple[Entry[Held], ...] = ()
    """Models that are reserved, but only for lines that wait for the load; they are evicted as well."""
    candidates: tuple[Entry[Held], ...] = ()
    """Models of `leave` that are compared on a line, which end their comparison."""

    @property
    def lines(self) -> set[str]:
        """The lines that must deactivate their models before the eviction."""
        return {line for entry in self.leave for line in tuple(entry.claims)}


def grouped(
    resident: Sequence[Entry[Held]], lines: set[str], short: Amount, unguaranteed: Amount
) -> EvictionCandidates[Held]:
    """Group resident models by whether they could be evicted for a load for which `lines` would leave theirs."""
    standby = tuple(e for e in resident if e.is_evictable)
    theirs = [e for e in resident if e not in standby and e.claims <= lines and e.reservations.keys() <= lines]
    leave = tuple(e for e in theirs if e.claims or e.is_tried or (e.leases and not e.reservations))
    announced = tuple(e for e in theirs if not e.claims and e.reservations and not e.is_tried)
    kept = tuple(e for e in resident if e not in standby and e not in leave and e not in announced)
    return EvictionCandidates(short, standby, leave, announced, kept, unguaranteed)


def in_use(entries: Iterable[Entry[Held]], leaving: set[str]) -> Amount:
    """Return the bytes of all models but those that may be evicted, at once or when the lines `leaving` have left.

    A release under way counts, because what does not come back of it is in use for ever.
    """
    rest = [one for one in entries if not one.is_evictable and not one.is_left_by(leaving)]
    return sum((one.charge for one in rest), NOTHING)


def candidates_claim(line: str) -> str:
    """Return the name of a comparison's claim and reservation of its candidate, which differs from its line's own."""
    return line + _CANDIDATES


def lines_of(names: Iterable[str]) -> tuple[str, ...]:
    """Return the lines for which claims or reservations of these names are, in order."""
    return tuple(sorted({name.removesuffix(_CANDIDATES) for name in names}))


def _are_candidates(names: Iterable[str]) -> bool:
    return all(name.endswith(_CANDIDATES) for name in names)


def compared_only(entries: Iterable[Entry[Held]], lines: Collection[str]) -> tuple[Entry[Held], ...]:
    """Return the models that nobody uses or reserves but comparisons, for their candidate, and `lines`."""
    users = ((one, {*one.claims, *one.reservations}.difference(lines)) for one in entries)
    return tuple(one for one, names in users if names and _are_candidates(names))


def fewest_first(entries: tuple[Entry[Held], ...]) -> Iterator[tuple[Entry[Held], ...]]:
    """Yield every subset of `entries`: the smallest first, and of equal size the one that fewer lines use."""
    for count in range(len(entries) + 1):
        yield from sorted(combinations(entries, count), key=lambda one: sum(len(entry.claims) for entry in one))
