"""JSON payloads of the MQTT topics; docs/schemas is generated from them. Times are UTC text with milliseconds."""

from typing import Annotated, Literal

import msgspec

from agent.messages.errors import Reason
from agent.messages.groups.told import CacheGroup, MetaGroup
from agent.messages.web.told import MetaWeb

Phase = Literal["idle", "preparing", "switching", "ready", "degraded", "fault"]
Rule = Literal[
    "operator", "product", "schedule", "default", "bandwidth", "temperature", "memory", "rollback", "recovery", "canary"
]
StreamStatus = Literal["online", "stalled", "offline", "ended"]
DeviceStatus = Literal["online", "stopped", "offline"]
AckResult = Literal["accepted", "done", "noop", "rejected", "failed"]
Pool = Literal["host", "device"]
Verdict = Literal["evicted", "refused"]
CacheReason = Literal[
    "room",  # evicted: a line wants another model
    "announced",  # evicted: another model is announced
    "break",  # evicted: its own line gave it up to make room (break-before-make)
    "asked",  # evicted: a client of the gateway unloaded it
    "excess",  # evicted: measured sizes exceed the predicted ones
    "removed",  # evicted: the catalog has it no longer
    "too_large",  # refused: larger than the whole budget
    "in_use",  # refused: evictable models are not enough
    "outgrew",  # refused: measured larger than the free budget after its load
    "out_of_memory",  # refused: the device or the runtime had no memory
]
SwitchResult = Literal["switched", "failed", "rejected", "superseded"]
JobEnd = Literal["done", "failed", "rejected", "superseded", "cancelled"]
JobPhase = Literal["queued", "downloading", "verifying", "preparing", "proving", "waiting", JobEnd]
Time = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")]


class Overrode(msgspec.Struct, frozen=True):
    """The overridden rule, and the model that it asks for."""

    rule: Rule
    model: str


class Cause(msgspec.Struct, frozen=True):
    """The rule that asked for a model, with its topic and value; `overrode` where it overrode another rule."""

    rule: Rule
    topic: str | None = None
    value: str | None = None
    overrode: Overrode | msgspec.UnsetType = msgspec.UNSET
    user: str | msgspec.UnsetType = msgspec.UNSET
    """Name of the user who asked in the console."""


class NextChange(msgspec.Struct, frozen=True):
    """The schedule's next change, as far as is known now."""

    at: Time
    model: str


class LineState(msgspec.Struct, frozen=True):
    """Payload of `line/{line}/state`; `next` is set only where the schedule will change the line's model."""

    line: str
    product: str | None
    model: str | None
    phase: Phase
    wanted: str | None
    cause: Cause
    since: Time
    boot: str
    v: int = 1
    next: NextChange | msgspec.UnsetType = msgspec.UNSET


class Switch(msgspec.Struct, frozen=True):
    """Payload of `line/{line}/switch`, published once for each change of product or model."""

    line: str
    product: str | None
    from_: str | None = msgspec.field(name="from")
    to: str | None
    cause: Cause
    result: SwitchResult
    reason: Reason | None
    residency: Literal["resident", "weights", "cold"] | None
    order: Literal["make-before-break", "break-before-make"] | None
    requested_at: Time
    ready_at: Time | None
    load_ms: float
    warmup_ms: float
    total_ms: float
    blind_ms: float
    frames_lost: int
    detail: str | None = None
    v: int = 1


Point = tuple[float, float]
Keypoint = tuple[float, float, float]


class DetectedObject(msgspec.Struct, frozen=True):
    """One object; `box` is x1, y1, x2, y2 in pixels of the captured frame, as all coordinates are.

    A segmenting model adds `polygons`, the outer rings of the mask as x, y, x, y, ...; a pose model `keypoints`, each
    x, y, score; a model of turned boxes `angle` in radians, clockwise from the x axis, and `corners`, clockwise.
    """

    label: str
    class_: int = msgspec.field(name="class")
    score: float
    box: tuple[float, float, float, float]
    polygons: list[list[float]] | msgspec.UnsetType = msgspec.UNSET
    keypoints: list[Keypoint] | msgspec.UnsetType = msgspec.UNSET
    angle: float | msgspec.UnsetType = msgspec.UNSET
    corners: tuple[Point, Point, Point, Point] | msgspec.UnsetType = msgspec.UNSET


class ScoredLabel(msgspec.Struct, frozen=True):
    """One of the best classes of a whole picture."""

    label: str
    class_: int = msgspec.field(name="class")
    score: float


class DetectionsPayload(msgspec.Struct, frozen=True):
    """Payload of `stream/{id}/detections` and `stream/{id}/replay`: the objects found in one frame.

    A classifying model finds no objects; `top` are its best classes, the best first. `left_out` counts the objects with
    the lowest scores that a message had no room for.
    """

    device: str
    line: str
    stream: str
    product: str | None
    ready: bool
    model: str
    boot: str
    seq: int
    frame: int
    captured_at: Time
    latency_ms: float
    width: int
    height: int
    objects: list[DetectedObject]
    v: int = 1
    top: list[ScoredLabel] | msgspec.UnsetType = msgspec.UNSET
    left_out: int | msgspec.UnsetType = msgspec.UNSET


class Summary(msgspec.Struct, frozen=True):
    """Payload of `stream/{id}/summary`: objects counted in one second, where the setting `publish` is `summary`."""

    seq: int
    from_: Time = msgspec.field(name="from")
    to: Time
    frames: int
    counts: dict[str, int]
    v: int = 1


class Ack(msgspec.Struct, frozen=True):
    """The answer to a command: payload of `ack`, or of the command's MQTT 5 response topic."""

    id: str | None
    topic: str
    result: AckResult
    reason: Reason | None = None
    detail: str | None = None


class JobState(msgspec.Struct, frozen=True):
    """Payload of `job/{id}/state`: how far an order of `models/set` is, or the fetching of the catalog's own files.

    `rev` is null for the agent's own jobs. `bytes` and `total` count all of the job's files; `total` 0: not known yet.
    """

    id: str
    rev: int | None
    state: JobPhase
    reason: Reason | None
    detail: str | None
    bytes: int
    total: int
    kbps: float
    eta_s: float | None
    models: list[str]
    since: Time
    v: int = 1


class Alert(msgspec.Struct, frozen=True):
    """Payload of `alert`: an alert was raised, cleared or acknowledged; `alerts` is the list of those that are on."""

    code: str
    on: bool
    line: str | None = None
    stream: str | None = None
    detail: str | None = None
    acknowledged_by: str | msgspec.UnsetType = msgspec.UNSET
    acknowledged_at: Time | msgspec.UnsetType = msgspec.UNSET


class Refused(msgspec.Struct, frozen=True):
    """A refused command in the list `refused`; `more` others were refused just before it and are not listed."""

    at: Time
    topic: str
    reason: Reason | None
    detail: str | None
    more: int = 0


class MetaStream(msgspec.Struct, frozen=True):
    """A stream in `meta`; never its source, which may hold a password."""

    id: str
    line: str


class ModelProcessor(msgspec.Struct, frozen=True):
    """The processor that a model runs on, as its runtime reported after the load.

    `processor` is cpu, cuda:N or tensorrt:N; `provider` is the runtime's own name of it. `missing` says what kept
    the model from the GPU.
    """

    processor: str
    runtime: str
    version: str
    provider: str
    missing: str | None = None

    def __str__(self) -> str:
        words = f"{self.processor} ({self.runtime} {self.version}, {self.provider})"
        return f"{words}, not on the GPU: {self.missing}" if self.missing else words


class Meta(msgspec.Struct, frozen=True):
    """Payload of `meta`; `models` has smaller variants first, `unsafe` those opened without the sandbox.

    `compute` is the setting, `processors` the processor that each resident model really runs on, `keypoints` the names
    of a resident pose model's keypoints, in order. `groups` is set where there are several, `web` where it serves.
    """

    versions: dict[str, str]
    device: str
    backend: str
    lines: list[str]
    streams: list[MetaStream]
    models: list[str]
    configuration_hash: str
    boot: str
    clock_synced: bool
    v: int = 1
    unsafe: list[str] = msgspec.field(default_factory=list)
    compute: str = ""
    processors: dict[str, ModelProcessor] = msgspec.field(default_factory=dict)
    keypoints: dict[str, list[str]] = msgspec.field(default_factory=dict)
    groups: dict[str, MetaGroup] | msgspec.UnsetType = msgspec.UNSET
    web: MetaWeb | msgspec.UnsetType = msgspec.UNSET


class CachePool(msgspec.Struct, frozen=True):
    """One pool of memory in `cache`; `runtime_bytes` of `used_bytes` belong to the runtimes, not to a model."""

    budget_bytes: int
    used_bytes: int
    runtime_bytes: int = 0


class CacheModel(msgspec.Struct, frozen=True):
    """A loaded model in `cache`; `reserved_for` lists lines, separated by commas; `pools` has its bytes by pool.

    `processor` is what the model runs on, null before its load has ended. `preloaded`: no line has wanted it yet.
    `group` is set where there are several: a model may be in memory once for each.
    """

    model: str
    bytes: int
    state: str
    last_use: str
    reserved_for: str | None = None
    pools: dict[Pool, int] | msgspec.UnsetType = msgspec.UNSET
    processor: str | None = None
    group: str | msgspec.UnsetType = msgspec.UNSET


class CacheCandidate(msgspec.Struct, frozen=True):
    """A loaded but unused model that was compared for eviction; the one with the lowest `score` is evicted first.

    `rate` in uses per changeover, `score` in ms per changeover and MiB.
    """

    model: str
    bytes: int
    rate: float
    reload_ms: float
    score: float


class CacheDecision(msgspec.Struct, frozen=True):
    """Reason of an eviction, or of a refusal for lack of memory.

    `wanted` is the model that an eviction makes room for, `needed_bytes` the shortage then. `predicted_bytes` and
    `actual_bytes` are the expected and the observed return of memory, or for a refusal the predicted and the measured
    size (None: not loaded, or not measured). `candidates` are the standby models compared, the lowest score first.
    """

    at: Time
    verdict: Verdict
    reason: CacheReason
    model: str
    wanted: str | None
    needed_bytes: int
    predicted_bytes: int
    actual_bytes: int | None
    candidates: list[CacheCandidate]


class Cache(msgspec.Struct, frozen=True):
    """Payload of `cache`; `kept_bytes` of `used_bytes` belong to unloaded models that have not given them back.

    `decisions` are the newest in order; `evicted` and `refused` count all, by reason. `pools` is set where a GPU has
    memory of its own: the other figures are the models' pool. `groups` is set where there are several: they are sums.
    """

    budget_bytes: int
    used_bytes: int
    models: list[CacheModel]
    kept_bytes: int = 0
    decisions: list[CacheDecision] = []
    evicted: dict[CacheReason, int] = {}
    refused: dict[CacheReason, int] = {}
    v: int = 1
    pools: dict[Pool, CachePool] | msgspec.UnsetType = msgspec.UNSET
    groups: dict[str, CacheGroup] | msgspec.UnsetType = msgspec.UNSET


class StreamHealth(msgspec.Struct, frozen=True):
    """One stream in `health`; `fps` since the last report, latencies from capture to publication.

    `decoder` of a network stream: "FFmpeg", a hardware decoder, or "FFmpeg (why not in hardware)"; empty for others.
    """

    fps: float
    latency_ms: dict[str, float]
    offered: int
    inferred: int
    dropped: int
    decoder: str = ""


class DeviceHealth(msgspec.Struct, frozen=True):
    """The device in `health`; `sources` lists the probes, the best first.

    `rails_w` are rails beside the total; `slowed` lists throttled parts (null: unknown); `gpu_load` and
    `memory_stalled` are shares from 0 to 1; `limits_c` are throttling temperatures; `ages_s` those of the readings.
    """

    sources: str
    board: str
    system: str
    power_mode: str
    rails_w: dict[str, float]
    limits_c: dict[str, float]
    gpu_load: float | None
    slowed: list[str] | None
    memory_stalled: float | None
    ages_s: dict[str, float]


class Health(msgspec.Struct, frozen=True):
    """Payload of `health`, published every 5 s. Maps are empty, and values null, where nothing on the device can tell.

    `caps` are the largest allowed variants by rule. `worker` counts crashed threads, lost workers and refused messages
    of children since the agent started. `processors` has the processor that each resident model really runs on.
    `index_age_s` is the age of the signed index of models, null without one.
    """

    at: Time
    streams: dict[str, StreamHealth]
    memory: dict[str, int]
    load: list[float]
    temperatures_c: dict[str, float]
    power_w: float | None
    outbox: dict[str, int]
    outbox_age_s: float
    round_trip_ms: float | None
    v: int = 1
    device: DeviceHealth | msgspec.UnsetType = msgspec.UNSET
    caps: dict[str, str] = msgspec.field(default_factory=dict)
    worker: dict[str, int] = msgspec.field(default_factory=dict)
    processors: dict[str, ModelProcessor] = msgspec.field(default_factory=dict)
    index_age_s: float | None = None
