"""One model in the ledger, and the words for how it stands there."""

from dataclasses import dataclass, field
from typing import Generic, Literal, Protocol, TypeVar

from agent.messages.references import ModelVersion

Phase = Literal["loading", "resident", "releasing"]  # how far an entry is; it only moves forward
State = Literal["loading", "resident", "active", "pinned", "reserved", "draining", "releasing"]


class Closable(Protocol):
    """What the ledger knows of a model."""

    def close(self) -> None:
        """Drop everything."""


Held = TypeVar("Held", bound=Closable)


@dataclass(eq=False)
class Entry(Generic[Held]):
    """One model in the ledger. Owned and changed by the cache alone, under its lock.

    `claims` are the lines that it serves or is about to serve, `serving` those of them that it serves; `reservations`
    the lines that it is kept for, with the end of each (monotonic, s); `leases` counts the frames that it is inferring.
    `predicted_bytes` is what was charged before the load, `reload_ms` what the load and the proof took.
    """

    version: ModelVersion
    bytes: int
    last_use_ns: int
    predicted_bytes: int = 0
    phase: Phase = "loading"
    model: Held | None = None
    claims: set[str] = field(default_factory=set)
    serving: set[str] = field(default_factory=set)
    reservations: dict[str, float] = field(default_factory=dict)
    leases: int = 0
    reload_ms: float = 0.0
    resident_since_s: float = 0.0

    @property
    def state(self) -> State:
        """The word that the `cache` topic carries.

        A lease has none of its own: it comes and goes with each frame, and shows where it is all that holds a model.
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
        """Say whether nobody would miss it."""
        return self.phase == "resident" and not self.claims and not self.leases and not self.reservations


@dataclass(frozen=True)
class Row:
    """One entry as it was when the ledger was read; `last_use_ns` is CLOCK_MONOTONIC."""

    reference: str
    bytes: int
    state: State
    last_use_ns: int
    reserved_for: tuple[str, ...] = ()
