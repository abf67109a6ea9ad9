"""What a board shows at one moment: frozen, and free of anything that draws."""

from dataclasses import dataclass
from typing import Final

from agent.messages.payloads import Alert, CacheModel, NextChange, Switch

LIVE_LIMIT_S: Final = 3.0
"""A `live` older than this stops the PLC, and so it is shown as stale."""


@dataclass(frozen=True)
class BrokerRow:
    """The watcher's own link; `age_s` is how long it has been so. `detail` says why it is away."""

    address: str = ""
    is_up: bool = False
    age_s: float = 0.0
    detail: str = ""


@dataclass(frozen=True)
class DeviceRow:
    """`status` and `meta`; empty or None where the device has not said it."""

    device: str
    status: str | None = None
    boot: str = ""
    backend: str = ""
    version: str = ""
    is_clock_synced: bool | None = None


@dataclass(frozen=True)
class LineRow:
    """One line. `live_age_s` counts from the last `live`, or from the first look where none came.

    `cause` names the rule that decides, and the one that it overrides.
    """

    line: str
    product: str | None = None
    model: str | None = None
    wanted: str | None = None
    phase: str | None = None
    cause: str | None = None
    ready: str | None = None
    live: str | None = None
    live_age_s: float = 0.0
    next_change: NextChange | None = None

    @property
    def is_stale(self) -> bool:
        """Whether a PLC that goes by `live` has stopped by now."""
        return self.live_age_s > LIVE_LIMIT_S

    @property
    def names_product(self) -> bool:
        """Whether `ready` and a young `live` name the same product: what lets a PLC run."""
        return not self.is_stale and self.live == self.ready and self.ready not in {None, "0"}


@dataclass(frozen=True)
class StreamRow:
    """One stream. Latencies are None, and `objects` is empty, until there is a frame; `dropped` is since the boot."""

    stream: str
    line: str = ""
    status: str | None = None
    fps: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    objects: tuple[tuple[str, int], ...] = ()
    model: str | None = None
    dropped: int | None = None
    replayed: int = 0


@dataclass(frozen=True)
class MemoryRow:
    """The budget of resident models, and what they take of it."""

    budget_bytes: int
    used_bytes: int
    models: tuple[CacheModel, ...]


@dataclass(frozen=True)
class ProcessRow:
    """What `health` says of the device. `outbox`: messages that wait for the broker; None where nothing can tell."""

    memory_bytes: tuple[tuple[str, int], ...] = ()
    available_bytes: int | None = None
    load: float | None = None
    hottest_c: float | None = None
    outbox: int = 0
    outbox_dropped: int = 0
    round_trip_ms: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """The whole board at one moment. `changeovers` newest first.

    `broken` counts payloads that could not be read, `missed` messages that came too fast for the view.
    """

    broker: BrokerRow
    device: DeviceRow
    lines: tuple[LineRow, ...]
    streams: tuple[StreamRow, ...]
    memory: MemoryRow | None
    processes: ProcessRow | None
    changeovers: tuple[Switch, ...]
    alerts: tuple[Alert, ...]
    broken: int
    missed: int
