"""Immutable snapshot of control's state that answers one scrape."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading


@dataclass(frozen=True)
class StreamFacts:
    """Counters of one stream since boot."""

    line: str
    status: str
    captured: int
    inferred: int
    dropped: int
    published: int
    """Detections or summaries published."""
    objects: Mapping[str, int] = field(default_factory=dict)
    stages_s: Mapping[str, float] = field(default_factory=dict)
    """Total time of all frames, by stage."""


@dataclass(frozen=True)
class LineFacts:
    """State of one line."""

    phase: str
    ready: bool
    moves: bool
    """The line sends `live`."""
    model: str | None


@dataclass(frozen=True)
class CacheFacts:
    """The budget, residents, evictions and refusals of the worker's cache."""

    budget_bytes: int = 0
    used_bytes: int = 0
    models: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Bytes of each resident model, by (reference, state)."""
    evicted: Mapping[str, int] = field(default_factory=dict)
    """Evictions by reason."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """Refused loads by reason."""
    pools: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Budget and used bytes of each pool, where there are two."""
    pooled: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """Bytes of each resident model in each pool, by (reference, state, pool)."""


@dataclass(frozen=True)
class LinkFacts:
    """State of the broker link."""

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
class Facts:
    """The whole snapshot."""

    info: Mapping[str, str]
    worker_up: bool
    clock_synced: bool
    lines: Mapping[str, LineFacts]
    streams: Mapping[str, StreamFacts]
    cache: CacheFacts
    link: LinkFacts
    alerts: tuple[AlertFacts, ...]
    reading: Reading
    memory: HostReading | None
    ages_s: Mapping[str, float]
    """Age of each source's last reading."""
    caps: Mapping[str, str]
    """Largest allowed variant, by rule."""
