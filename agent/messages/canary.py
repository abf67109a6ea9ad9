"""The comparison of two versions of a model: messages between control and worker, counts, and the payload `canary`."""

import math
from typing import Final, Literal

import msgspec

from agent.messages.children import Message
from agent.messages.errors import Reason
from agent.messages.payloads import DetectedObject, ScoredLabel, Time
from agent.messages.references import ModelVersion

CanaryMode = Literal["shadow", "canary"]
CanaryPromote = Literal["auto", "ask"]
CanaryResult = Literal["running", "promoted", "rolled_back", "stopped", "ready_to_promote"]
CanaryReason = Literal[
    Reason, "inference_failed", "hung", "memory", "disagreement", "scores", "latency", "class_rates", "unsteady"
]

COMPARISONS: Final = "comparisons"
"""Folder of the state folder that keeps what a report shows."""
KEPT_OF: Final = "comparison.txt"
"""File beside kept frames that holds the candidate's reference, so that none are shown as another comparison's."""
_BUCKETS_A_DECADE: Final = 40
"""Buckets of a latency histogram by factors of ten, so that a bucket is 6 % wide."""
_LEAST_MS: Final = 0.1
LAST_BUCKET: Final = 6 * _BUCKETS_A_DECADE


class Histogram(msgspec.Struct, frozen=True):
    """Latencies by bucket; bucket n holds those from 0.1 ms x 10^(n/40) up to the next one."""

    buckets: dict[int, int] = {}

    @property
    def count(self) -> int:
        """Number of latencies."""
        return sum(self.buckets.values())

    def percentile(self, share: float) -> float | None:
        """Return the latency in ms that `share` (0 to 1) of all do not exceed, to 3 %; None without any."""
        left = share * self.count
        for bucket, count in sorted(self.buckets.items()):
            left -= count
            if left <= 0:
                return round(bucket_ms(bucket + 0.5), 3)
        return None

    def count_above(self, limit_ms: float) -> int:
        """Return how many latencies are in buckets wholly above `limit_ms`."""
        return sum(count for bucket, count in self.buckets.items() if bucket_ms(bucket) >= limit_ms)


def bucket_of(latency_ms: float) -> int:
    """Return the bucket of a latency; the first and the last hold what is beyond them."""
    place = math.log10(max(latency_ms, _LEAST_MS) / _LEAST_MS) * _BUCKETS_A_DECADE
    return min(int(place), LAST_BUCKET)


def bucket_ms(place: float) -> float:
    """Return the latency in ms at a place of the histogram's axis, such as a bucket's lower end."""
    return float(_LEAST_MS * 10 ** (place / _BUCKETS_A_DECADE))


class ClassCounts(msgspec.Struct, frozen=True):
    """Objects of one class in the compared frames, as both models found them."""

    stable: int = 0
    candidate: int = 0
    agree: int = 0
    """Objects that both found: same label, IoU >= 0.5."""
    frames: int = 0
    """Frames in which either found one."""
    fewer: int = 0
    """Frames in which the candidate found fewer of them."""
    more: int = 0
    """Frames in which the candidate found more of them."""
    score: float = 0.0
    """Sum of the score differences of agreeing objects, candidate less stable."""
    overlap: float = 0.0
    """Sum of the IoU of agreeing objects: of boxes, masks or turned boxes, or a similarity of keypoints."""


class Counts(msgspec.Struct, frozen=True):
    """Counts of compared frames; those of two spans add up."""

    frames: int = 0
    """Frames that both models answered."""
    objects: int = 0
    """Frames of these in which either model found something."""
    agree: int = 0
    missing: int = 0
    """Objects that the stable model found, and the candidate did not."""
    extra: int = 0
    """Objects that the candidate found, and the stable model did not."""
    against: int = 0
    """Those of `missing` that the stable model is sure of, and those of `extra` that the candidate is not."""
    borderline: int = 0
    """Objects of one model alone that are too close to its confidence threshold to count."""
    scored: int = 0
    """Frames with agreeing objects."""
    score: float = 0.0
    """Sum of these frames' mean score differences, candidate less stable."""
    score_squares: float = 0.0
    """Sum of their squares."""
    again: int = 0
    """Frames that both models inferred once more, moved by a few pixels."""
    stable_unsteady: float = 0.0
    """Sum of what the stable model's answers to these frames and to the moved ones lack in overlap."""
    candidate_unsteady: float = 0.0
    """The candidate's."""
    stable_unsteady_squares: float = 0.0
    candidate_unsteady_squares: float = 0.0
    unsteady_products: float = 0.0
    """Sum of the products of both models' values."""
    answered: int = 0
    """Frames that the candidate answered for the line."""
    seen: int = 0
    """Frames of the line in the same time."""
    skipped: int = 0
    """Frames of the share that were not compared, because there was no slack for them."""
    late: int = 0
    """Frames on which the candidate took too long, so that the stable model answered them."""
    classes: dict[str, ClassCounts] = {}
    stable_ms: Histogram = Histogram()
    candidate_ms: Histogram = Histogram()


class Compare(Message, frozen=True):
    """Begins to compare `candidate`, which is resident, with the model that serves `line`.

    The worker answers with ComparisonBegan or ComparisonFailed of the same `number`, then sends Compared.
    """

    line: str
    number: int
    candidate: ModelVersion
    mode: CanaryMode
    share: float
    """Share of the frames, 0 to 1: compared, or in the mode `canary` answered by the candidate."""
    memory_bytes: int
    """Growth of the worker's memory beyond which the candidate is given up."""
    keep_bytes: int = 0
    """Size limit of the most different frames kept as pictures; 0: none."""
    keep_dir: str = ""
    """Folder of those pictures, from which a comparison that keeps none deletes the earlier ones; empty: none."""


class StopComparing(Message, frozen=True):
    """Ends the comparison `number` of `line`; every frame after it is the serving model's."""

    line: str
    number: int


class ComparisonBegan(Message, frozen=True):
    """The candidate is proven, and gets its share of the frames from now on."""

    line: str
    number: int


class Compared(Message, frozen=True):
    """Counts since the last such message."""

    line: str
    number: int
    counts: Counts


class ComparisonFailed(Message, frozen=True):
    """The candidate was given up; it answers no frame any more."""

    line: str
    number: int
    reason: CanaryReason
    detail: str


class KeptFrame(msgspec.Struct, frozen=True):
    """A frame that was kept for a report, with both answers; its picture lies beside it."""

    stream: str
    frame: int
    captured_at: Time
    width: int
    height: int
    stable: list[DetectedObject] = []
    candidate: list[DetectedObject] = []
    stable_top: list[ScoredLabel] | msgspec.UnsetType = msgspec.UNSET
    candidate_top: list[ScoredLabel] | msgspec.UnsetType = msgspec.UNSET


class CanaryLatency(msgspec.Struct, frozen=True):
    """Latency of one model in ms: preprocessing, inference and decoding of a frame; null before the first one."""

    p50: float | None
    p99: float | None


class CanaryClass(msgspec.Struct, frozen=True):
    """One class in `canary`; `score_delta` is the mean difference of agreeing objects, candidate less stable."""

    stable: int
    candidate: int
    agree: int
    missing: int
    extra: int
    score_delta: float | None


class Canary(msgspec.Struct, frozen=True):
    """Payload of `line/{line}/canary`: the running or last comparison of two versions of a model.

    `frames` were inferred by both models. `agree` is the share of all objects that both found, with the same label and
    an IoU of at least 0.5; `agree_interval` is where it lies with 99 % confidence, frames taken as the sample.
    `answered` frames of `seen` were answered by the candidate; `skipped` ones had no slack, and on `late` ones the
    stable model answered in its place. `unsteady` is the mean share of overlap that a model's objects lose when the
    picture is moved by a few pixels; null before the first such frame. `stage` is waiting, loading, starting, running
    or ended.
    """

    line: str
    candidate: str
    stable: str | None
    mode: CanaryMode
    share: float
    stage: str
    frames: int
    wanted_frames: int
    agree: float | None
    agree_interval: tuple[float, float] | None
    missing: int
    extra: int
    score_delta: float | None
    latency_ms: dict[Literal["stable", "candidate"], CanaryLatency]
    answered: int
    seen: int
    skipped: int
    late: int
    unsteady: dict[Literal["stable", "candidate"], float | None]
    classes: dict[str, CanaryClass]
    result: CanaryResult
    reason: CanaryReason | None
    detail: str | None
    promote: CanaryPromote
    since: Time
    ended_at: Time | None
    boot: str
    id: str | None = None
    v: int = 1
