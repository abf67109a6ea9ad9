"""What the PLC of a benchmark heard, with the time of each arrival, and who betrayed himself by his labels."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.bench.plant.labels import is_label_of
from agent.bench.plant.plant import BASE
from agent.messages.payloads import Cache, DetectionsPayload, Switch
from agent.mqtt.blocking_client import Arrival


@dataclass(frozen=True)
class Seen:
    """One frame's detections. `at_s` is when they arrived (time.monotonic)."""

    at_s: float
    frame: int
    model: str
    latency_ms: float


@dataclass
class Witness:
    """Takes every message of the device. `on_cache` hears of each change of the ledger at once.

    `ready` is the last value of each line; `said_ready` all of them: (when, line, value).
    """

    on_cache: Callable[[float, Cache], None] = lambda _at_s, _cache: None
    status: str = ""
    wrong_model: int = 0
    frames: dict[str, list[Seen]] = field(default_factory=lambda: defaultdict(list))
    ready: dict[str, tuple[float, str]] = field(default_factory=dict)
    said_ready: list[tuple[float, str, str]] = field(default_factory=list)
    switches: list[tuple[float, Switch]] = field(default_factory=list)
    cache: Cache | None = None

    def take(self, arrival: Arrival) -> None:
        """Note one message."""
        kind, _, rest = arrival.topic.removeprefix(f"{BASE}/").partition("/")
        owner, _, name = rest.partition("/")
        if name == "detections":
            self._take_detections(arrival.at_s, msgspec.json.decode(arrival.payload, type=DetectionsPayload))
        elif name == "ready":
            self.ready[owner] = (arrival.at_s, arrival.payload.decode())
            self.said_ready.append((arrival.at_s, owner, arrival.payload.decode()))
        elif name == "switch":
            self.switches.append((arrival.at_s, msgspec.json.decode(arrival.payload, type=Switch)))
        elif kind == "cache":
            self.cache = msgspec.json.decode(arrival.payload, type=Cache)
            self.on_cache(arrival.at_s, self.cache)
        elif kind == "status":
            self.status = arrival.payload.decode()

    def _take_detections(self, at_s: float, one: DetectionsPayload) -> None:
        self.frames[one.stream].append(Seen(at_s, one.frame, one.model, one.latency_ms))
        self.wrong_model += not is_answer_of(one)


def is_answer_of(one: DetectionsPayload) -> bool:
    """Say whether a frame was answered by the model that it names.

    A model of a benchmark always finds one object; an answer without any is nobody's. Product and `ready` are those of
    the frame's capture: the model that infers it may be the next one already.
    """
    name = one.model.partition(":")[0].removeprefix("part-")
    labels = [found.label for found in one.objects]
    return bool(labels) and all(is_label_of(label, name) for label in labels)


@dataclass(frozen=True)
class Gaps:
    """Frames that got no answer, and out of how many."""

    missing: int
    offered: int

    @property
    def share(self) -> float:
        """Of those offered."""
        return self.missing / self.offered if self.offered else 0.0


NO_GAPS: Final = Gaps(0, 0)


def gaps(frames: list[Seen]) -> Gaps:
    """Count what is missing between the first and the last of `frames`, by their numbers."""
    if not frames:
        return NO_GAPS
    offered = frames[-1].frame - frames[0].frame
    return Gaps(offered - (len(frames) - 1), offered)
