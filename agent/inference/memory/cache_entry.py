"""One model in the ledger, and its states."""

from dataclasses import dataclass, field
from typing import Final, Generic, Literal, Protocol, TypeVar

from agent.inference.memory.pools import NOTHING, Amount
from agent.messages.references import ModelVersion

Phase = Literal["loading", "resident", "releasing"]  # states of an entry, in their order
State = Literal["loading", "resident", "active", "pinned", "reserved", "draining", "releasing"]


class Closable(Protocol):
    """The part of a model that the ledger needs."""

    def refuse(self, why: str) -> None:
        """Have every later picture fail; returns at once."""

    def close(self) -> None:
        """Free the model's memory."""


Held = TypeVar("Held", bound=Closable)


@dataclass(frozen=True)
class Origin:
    """The backend and the footprint of a load; its release corrects the footprint."""

    backend: str = ""
    footprint_key: str = ""


@dataclass(frozen=True)
class DeviceCharge:
    """GPU memory of a model."""

    bytes: int
    is_counted: bool
    """The runtime's allocator counts it; otherwise it is a guess, which nothing can confirm."""


NO_DEVICE: Final = DeviceCharge(0, is_counted=False)


@dataclass(eq=False)
class Entry(Generic[Held]):
    """One model in the ledger. Only the cache changes it, under its lock."""

    version: ModelVersion
    bytes: int
    """Bytes of host memory that are charged now."""
    last_use_ns: int
    """Monotonic."""
    predicted: Amount = NOTHING
    """What was charged before the load."""
    origin: Origin = Origin()
    device_bytes: int = 0
    """Bytes of GPU memory that are charged now."""
    is_counted: bool = False
    """The runtime's allocator counts the GPU memory; otherwise it is a guess."""
    grown_bytes: int = 0
    """Growth of the process in the load, which includes memory that the runtime keeps."""
    phase: Phase = "loading"
    model: Held | None = None
    claims: set[str] = field(default_factory=set)
    """Lines that the model serves or is about to serve."""
    serving: set[str] = field(default_factory=set)
    """Lines of `claims` that the model serves."""
    reservations: dict[str, float] = field(default_factory=dict)
    """Lines that the model is reserved for, with the end of each reservation (monotonic, s)."""
    leases: int = 0
    """Number of frames that the model is inferring."""
    is_condemned: bool = False
    """Its answers were found wrong, so no line may claim it; it stays charged until it is released."""
    reload_ms: float = 0.0
    """Duration of the model's load and proof."""
    resident_since_s: float = 0.0
    """Monotonic."""

    @property
    def charge(self) -> Amount:
        """Return the bytes that are charged now."""
        return Amount(self.bytes, self.device_bytes)

    @property
    def total_bytes(self) -> int:
        """Return the bytes that are charged now, in all memory."""
        return self.bytes + self.device_bytes

    @property
    def state(self) -> State:
        """The state that the `cache` topic carries.

        A lease alone is `draining`, because it would otherwise come and go with each frame.
        """
        if self.phase != "resident":
            return self.phase
        if self.claims:
            return "active" if self.serving else "pinned"
        if self.leases:
            return "draining"
        return "reserved" if self.reservations else "resident"

    @property
    def is_evictable(self) -> bool:
        """Return True for a resident model without claims, leases and reservations."""
        return self.phase == "resident" and not self.claims and not self.leases and not self.reservations


@dataclass(frozen=True)
class Row:
    """One entry at the moment when the ledger was read; `last_use_ns` is CLOCK_MONOTONIC."""

    reference: str
    charge: Amount
    state: State
    last_use_ns: int
    reserved_for: tuple[str, ...] = ()
    is_counted: bool = False

    @property
    def bytes(self) -> int:
        """The bytes in all memory."""
        return self.charge.total_bytes
