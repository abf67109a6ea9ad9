"""Frozen rows of the view, independent of any drawing library."""

from dataclasses import dataclass
from typing import Final

from agent.messages.payloads import Alert, CacheModel, JobState, NextChange, Refused, Switch

LIVE_LIMIT_S: Final = 3.0
"""Age from which a `live` is shown as stale, because a PLC that follows it has stopped."""


@dataclass(frozen=True)
class BrokerRow:
    """The viewer's own connection to the broker."""

    address: str = ""
    is_up: bool = False
    age_s: float = 0.0
    """Seconds since the connection last came up or went down."""
    detail: str = ""
    """Error of the last attempt."""


@dataclass(frozen=True)
class DeviceRow:
    """The device's `status` and `meta`; unknown values are empty or None."""

    device: str
    status: str | None = None
    boot: str = ""
    backend: str = ""
    version: str = ""
    is_clock_synced: bool | None = None


@dataclass(frozen=True)
class LineRow:
    """State of one line."""

    line: str
    product: str | None = None
    model: str | None = None
    wanted: str | None = None
    phase: str | None = None
    cause: str | None = None
    """The deciding rule, and the rule that it overrides."""
    ready: str | None = None
    live: str | None = None
    live_age_s: float = 0.0
    """Seconds since the last `live`; without one, since the line was first seen."""
    next_change: NextChange | None = None

    @property
    def is_stale(self) -> bool:
        """True where a PLC that follows `live` has stopped by now."""
        return self.live_age_s > LIVE_LIMIT_S

    @property
    def names_product(self) -> bool:
        """True where `ready` and a fresh `live` name the same product, so that a PLC may run."""
        return not self.is_stale and self.live == self.ready and self.ready not in {None, "0"}


@dataclass(frozen=True)
class StreamRow:
    """State of one stream."""

    stream: str
    line: str = ""
    status: str | None = None
    fps: float = 0.0
    p50_ms: float | None = None
    """Median latency; None before the first frame, as is `p99_ms`."""
    p99_ms: float | None = None
    objects: tuple[str, ...] = ()
    """A word for each label of the last frame, or of the last summary."""
    model: str | None = None
    dropped: int | None = None
    """Number of frames dropped since the agent started; None where unknown."""
    replayed: int = 0


@dataclass(frozen=True)
class MemoryRow:
    """Memory budget of resident models, and its use."""

    budget_bytes: int
    used_bytes: int
    models: tuple[CacheModel, ...]


@dataclass(frozen=True)
class ProcessRow:
    """The device's processes, from `health`; unknown values are None."""

    memory_bytes: tuple[tuple[str, int], ...] = ()
    """Name and memory in bytes of each process."""
    available_bytes: int | None = None
    load: float | None = None
    hottest_c: float | None = None
    outbox: int = 0
    """Messages that wait for the broker."""
    outbox_dropped: int = 0
    round_trip_ms: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """All rows of a board at one moment."""

    broker: BrokerRow
    device: DeviceRow
    lines: tuple[LineRow, ...]
    streams: tuple[StreamRow, ...]
    memory: MemoryRow | None
    processes: ProcessRow | None
    changeovers: tuple[Switch, ...]
    """Newest first."""
    jobs: tuple[JobState, ...]
    """Orders for models, the newest first."""
    alerts: tuple[Alert, ...]
    refused: tuple[Refused, ...]
    """Refused commands, newest first."""
    broken: int
    """Count of unreadable payloads."""
    missed: int
    """Count of messages dropped because they came too fast."""
