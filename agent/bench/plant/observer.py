"""Recorder of everything that a benchmark's PLC receives, with times of arrival."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.bench.plant.bench_plant import BASE
from agent.bench.plant.labels import is_label_of
from agent.messages.canary import Canary
from agent.messages.payloads import Cache, DetectionsPayload, JobState, Switch
from agent.mqtt.blocking_client import Arrival


@dataclass(frozen=True)
class Seen:
    """Received detections of one frame."""

    at_s: float
    """Time of arrival, time.monotonic()."""
    frame: int
    model: str
    latency_ms: float


def is_answer_of(one: DetectionsPayload) -> bool:
    """Return True where a frame's labels belong to the model that it states.

    A benchmark's model always finds one object, so an empty answer is False. `product` and `ready` are not judged,
    because they are those of the capture, after which the line may change.
    """
    name = one.model.partition(":")[0].removeprefix("part-")
    labels = [found.label for found in one.objects]
    return bool(labels) and all(is_label_of(label, name) for label in labels)


@dataclass
class Observer:
    """Record of a device's messages; for one thread."""

    on_cache: Callable[[float, Cache], None] = lambda _at_s, _cache: None
    """Called with each `cache` message and its time of arrival."""
    is_right: Callable[[DetectionsPayload], bool] = is_answer_of
    """Returns False for an answer of another model than the stated one."""
    status: str = ""
    wrong_model: int = 0
    """Frames that `is_right` denies."""
    frames: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    ready: dict[str, tuple[float, str]] = field(default_factory=dict)
    """Newest `ready` of each line, with its time of arrival."""
    said_ready: list[tuple[float, str, str]] = field(default_factory=list)
    """Every `ready`, as (time of arrival, line, value)."""
    switches: list[tuple[float, Switch]] = field(default_factory=list)
    cache: Cache | None = None
    jobs: dict[str, JobState] = field(default_factory=dict)
    """Newest state of each order, by its id."""
    canary: dict[str, Canary] = field(default_factory=dict)
    """Newest `canary` of each line."""

    def take(self, arrival: Arrival) -> None:
        """Record one message."""
        kind, _, rest = arrival.topic.removeprefix(f"{BASE}/").partition("/")
        owner, _, name = rest.partition("/")
        if name == "detections":
            self._take_detections(arrival.at_s, msgspec.json.decode(arrival.payload, type=DetectionsPayload))
        elif name == "ready":
            self.ready[owner] = (arrival.at_s, arrival.payload.decode())
            self.said_ready.append((arrival.at_s, owner, arrival.payload.decode()))
        elif name == "switch":
            self.switches.append((arrival.at_s, msgspec.json.decode(arrival.payload, type=Switch)))
        elif name == "canary":
            self.canary[owner] = msgspec.json.decode(arrival.payload, type=Canary)
        elif kind == "cache":
            self.cache = msgspec.json.decode(arrival.payload, type=Cache)
            self.on_cache(arrival.at_s, self.cache)
        elif kind == "job":
            self.jobs[owner] = msgspec.json.decode(arrival.payload, type=JobState)
        elif kind == "status":
            self.status = arrival.payload.decode()

    def _take_detections(self, at_s: float, one: DetectionsPayload) -> None:
        self.frames[one.stream].append(Seen(at_s, one.frame, one.model, one.latency_ms))
        self.wrong_model += not self.is_right(one)


@dataclass(frozen=True)
class Gaps:
    """Frames without detections, out of all offered."""

    missing: int
    offered: int

    @property
    def share(self) -> float:
        """Number of missing frames divided by the number of offered ones."""
        return self.missing / self.offered if self.offered else 0.0


NO_GAPS: Final = Gaps(0, 0)


def gaps(frames: list[Seen]) -> Gaps:
    """Count missing frame numbers between the first and the last of `frames`."""
    if not frames:
        return NO_GAPS
    offered = frames[-1].frame - frames[0].frame
    return Gaps(offered - (len(frames) - 1), offered)
