"""Immutable snapshot of control's state that answers one scrape."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading
from agent.messages.groups.told import CacheGroup


@dataclass(frozen=True)
class StreamFacts:
    """Counters of one stream since the agent started."""

    line: str
    status: str
    captured: int
    inferred: int
    dropped: int
    published: int
    """Detections or summaries published."""
    objects: Mapping[str, int] = field(default_factory=dict)
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Seconds that all frames together took, by processing stage."""


@dataclass(frozen=True)
class LineFacts:
    """State of one line."""

    phase: str
    ready: bool
    moves: bool
    """True while the line sends its heartbeat `live`."""
    model: str | None


@dataclass(frozen=True)
class CacheFacts:
    """Budget, resident models, evictions and refused loads of the worker's model cache."""

    budget_bytes: int = 0
    used_bytes: int = 0
    models: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Bytes of each resident model, by (reference, state)."""
    evicted: Mapping[str, int] = field(default_factory=dict)
    """Evictions by reason."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Refused loads by reason."""
    pools: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Budget and used bytes by pool (host and GPU memory); empty where there is one pool only."""
    pooled: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """Bytes of each resident model in each pool, by (reference, state, pool)."""
    groups: Mapping[str, CacheGroup] = field(default_factory=dict)
    """Share of each group; empty where there is one only."""
    loaded: int = 0
    """Number of resident models; one that several groups have counts for each."""


@dataclass(frozen=True)
class LinkFacts:
    """State of the connection to the broker."""

    is_up: bool
    outbox: Mapping[str, int]
    """Outbox counters, as in `health`."""
    outbox_age_s: float
    round_trip_ms: float | None


@dataclass(frozen=True)
class AlertFacts:
    """One active alert; line and stream are empty where it concerns neither."""

    code: str
    line: str
    stream: str


@dataclass(frozen=True)
class SupplyFacts:
    """Orders for models."""

    ended: Mapping[str, int] = field(default_factory=dict)
    """Ended jobs by their last state."""
    fetched_bytes: int = 0
    index_age_s: float | None = None
    """Age of the signed index; None without one."""


@dataclass(frozen=True)
class Facts:
    """Snapshot of the whole agent for one scrape."""

    info: Mapping[str, str]
    workers_up: Mapping[str, bool]
    """For each group, whether its worker runs and makes progress."""
    clock_synced: bool
    lines: Mapping[str, LineFacts]
    streams: Mapping[str, StreamFacts]
    cache: CacheFacts
    link: LinkFacts
    alerts: tuple[AlertFacts, ...]
    reading: Reading
    memory: HostReading | None
    ages_s: Mapping[str, float]
    """Seconds since the last reading of each sensor source, by its name."""
    caps: Mapping[str, str]
    """Largest allowed model variant, by the rule that limits it."""
    supply: SupplyFacts = field(default_factory=SupplyFacts)
    requests: Mapping[tuple[str, str, str], tuple[int, float]] = field(default_factory=dict)
    """Number and seconds of inference requests, by (client, model, outcome)."""
