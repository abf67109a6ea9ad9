"""What control knows at one moment, as a scrape is answered with it: numbers and words, nothing that changes later."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from agent.health.sensors.host import HostReading
from agent.health.sensors.reading import Reading


@dataclass(frozen=True)
class StreamFacts:
    """One stream, counted since the boot. `published`: detections messages (or summaries) that it led to.

    `stages_s`: where the time of all its frames went, together, by stage.
    """

    line: str
    status: str
    captured: int
    inferred: int
    dropped: int
    published: int
    objects: Mapping[str, int] = field(default_factory=dict)
    stages_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LineFacts:
    """One line; `ready` and `moves` as `ready` and `live` say it."""

    phase: str
    ready: bool
    moves: bool
    model: str | None


@dataclass(frozen=True)
class CacheFacts:
    """The worker's ledger: bytes of each resident model by (reference, state), and decisions counted by reason."""

    budget_bytes: int = 0
    used_bytes: int = 0
    models: Mapping[tuple[str, str], int] = field(default_factory=dict)
    evicted: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LinkFacts:
    """The broker, and what waits for it. `outbox` is as `health` has it."""

    is_up: bool
    outbox: Mapping[str, int]
    outbox_age_s: float
    round_trip_ms: float | None


@dataclass(frozen=True)
class AlertFacts:
    """One alert that is on; empty where it is not of a line or a stream."""

    code: str
    line: str
    stream: str


@dataclass(frozen=True)
class Facts:
    """All of it. `ages_s` is the age of each source's last reading; `caps` the largest variant allowed, by rule."""

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
    caps: Mapping[str, str]
