"""Hot path of detections through control: adds line, product and `ready`, and publishes."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Final, Protocol

import msgspec

from agent.control.lines.policy import serves
from agent.messages.children import Detections, StageTimes
from agent.messages.payloads import Summary
from agent.messages.references import ModelReference
from agent.messages.texts.utc import utc_text
from agent.settings import PUBLISH_LEAST_FIRST, Publish, StreamSettings

_MOMENTS: Final = 64
"""Remembered changes of a line; a frame is never older than a few of them."""
_HEARTBEAT_S: Final = 5.0
_SUMMARY_S: Final = 1.0

Send = Callable[[str, bytes], None]
"""Arguments: stream, payload."""
Observe = Callable[[str, float, float], None]
"""Arguments: stream, inference_ms, latency_ms."""
_LABELS: Final = 256
"""Labels counted by name for each stream; objects of further ones count as _OTHER."""
_OTHER: Final = "(other)"
STAGES: Final = ("capture", "wait", "preprocess", "infer", "decode", "publish")


class Counted(Protocol):
    """Counters of one stream since the agent started."""

    inferred: int
    """Frames inferred."""
    published: int
    """Messages published."""
    objects: dict[str, int]
    """Objects found, by label."""
    stages_ms: dict[str, float]
    """Total time of all frames in ms, by the stage's name."""


@dataclass(frozen=True)
class _Moment:
    """Product and readiness of a line from `since_ns` on, with its part of the JSON payload already encoded."""

    since_ns: int
    product: str | None
    ready: bytes
    not_ready: bytes
    right: tuple[ModelReference, ...] = ()
    """Models whose detections carry `ready` true; none where the line was not ready."""

    def prefix(self, model: str) -> bytes:
        """Return the line's part of the JSON payload for a frame inferred by `model`."""
        return self.ready if _is_right(model, self.right) else self.not_ready


@lru_cache(1024)  # because it is called for each detection, and parsing a reference costs most of it
def _is_right(model: str, right: tuple[ModelReference, ...]) -> bool:
    return serves(model, right)


@dataclass
class _Output:
    stream: StreamSettings
    publish: Publish
    seq: int = 0
    last_told: tuple[str, tuple[tuple[str, int], ...]] | None = None
    """Model and counts of the last message of the mode `changes`."""
    last_sent_s: float = 0.0
    inferred: int = 0
    published: int = 0
    objects: dict[str, int] = field(default_factory=dict)
    stages_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=512))
    window_since_s: float | None = None
    window_frames: int = 0
    window_counts: dict[str, int] = field(default_factory=dict)


class DetectionPublisher:
    """Numbers, completes and publishes detections; runs on control's loop alone."""

    def __init__(
        self, device: str, boot: str, streams: tuple[StreamSettings, ...], send: Send, send_summary: Send
    ) -> None:
        self.observe: Observe | None = None
        self._device: Final = device
        self._send: Final = send
        self._send_summary: Final = send_summary
        self._boot: Final = msgspec.json.encode(boot)
        self._outputs: Final = {stream.id: _Output(stream, stream.publish) for stream in streams}
        self._moments: Final[dict[str, deque[_Moment]]] = {}
        for line in {stream.line for stream in streams}:
            self._moments[line] = deque([self._new_moment(line, None, 0)], _MOMENTS)

    def line_changed(
        self, line: str, product: str | None, since_ns: int, right: tuple[ModelReference, ...] = ()
    ) -> None:
        """Record a line's product and the models that fit it, for frames captured from `since_ns` (monotonic) on."""
        moments = self._moments.get(line)
        if moments is None:
            return
        if (moments[-1].product, moments[-1].right) != (product, right):
            moments.append(self._new_moment(line, product, since_ns, right))

    def publish(self, message: Detections) -> None:
        """Publish one inferred frame according to the stream's publish mode."""
        output = self._outputs[message.stream]
        latency_ms = (time.monotonic_ns() - message.captured_ns) / 1e6
        output.inferred += 1
        output.latencies_ms.append(latency_ms)
        _add_stages(output.stages_ms, message.stages_ms, latency_ms)
        if self.observe is not None:
            self.observe(message.stream, message.stages_ms.infer, latency_ms)
        for label, count in message.counts:
            known = label if label in output.objects or len(output.objects) < _LABELS else _OTHER
            output.objects[known] = output.objects.get(known, 0) + count
        match output.publish:
            case "all":
                self._send_detections(output, message, latency_ms)
            case "changes":
                is_due = time.monotonic() - output.last_sent_s >= _HEARTBEAT_S
                told = (message.model, message.counts)
                if told != output.last_told or is_due:
                    output.last_told = told
                    self._send_detections(output, message, latency_ms)
            case "summary":
                self._count(output, message)

    def set_publish(self, stream: str, publish: Publish | None) -> None:
        """Limit a stream's publish mode, never beyond the configured one; None lifts the limit."""
        output = self._outputs[stream]
        if output.publish == "summary" and output.window_frames:
            self._summarise(stream, output, time.monotonic())
        own = output.stream.publish
        before, output.publish = output.publish, min(publish or own, own, key=PUBLISH_LEAST_FIRST.index)
        if before != output.publish:
            # Reset, because a summary counts from here, and `changes` begins with the present counts.
            output.window_since_s, output.window_frames, output.window_counts = None, 0, {}
            output.last_told = None

    def tick(self) -> None:
        """Publish the summaries that are due."""
        now_s = time.monotonic()
        for id_, output in self._outputs.items():
            since_s = output.window_since_s
            if output.publish == "summary" and (since_s is None or now_s - since_s >= _SUMMARY_S):
                self._summarise(id_, output, now_s)

    def statistics(self) -> dict[str, tuple[int, list[float]]]:
        """Return, by stream, the frames inferred since the agent started and the newest latencies in ms."""
        return {id_: (output.inferred, list(output.latencies_ms)) for id_, output in self._outputs.items()}

    def counted(self) -> Mapping[str, Counted]:
        """Return the counters by stream."""
        return self._outputs

    def _send_detections(self, output: _Output, message: Detections, latency_ms: float) -> None:
        output.last_sent_s = time.monotonic()
        payload = b'%b,"stream":%b,"seq":%d,"latency_ms":%.1f,%b' % (
            self._moment(output.stream.line, message.captured_ns).prefix(message.model),
            msgspec.json.encode(message.stream),
            output.seq,
            latency_ms,
            message.tail,
        )
        self._send(message.stream, payload)
        output.seq += 1
        output.published += 1

    def _moment(self, line: str, captured_ns: int) -> _Moment:
        moments = self._moments[line]
        known = next((moment for moment in reversed(moments) if moment.since_ns <= captured_ns), None)
        # Not ready, because the state at an older frame's capture is no longer known.
        return known if known is not None else replace(moments[0], right=())

    def _new_moment(
        self, line: str, product: str | None, since_ns: int, right: tuple[ModelReference, ...] = ()
    ) -> _Moment:
        ready, not_ready = (self._prefix(line, product, ready=one) for one in (True, False))
        return _Moment(since_ns, product, ready, not_ready, right)

    def _prefix(self, line: str, product: str | None, *, ready: bool) -> bytes:
        return b'{"v":1,"device":%b,"line":%b,"product":%b,"ready":%b,"boot":%b' % (
            msgspec.json.encode(self._device),
            msgspec.json.encode(line),
            msgspec.json.encode(product),
            msgspec.json.encode(ready),
            self._boot,
        )

    def _count(self, output: _Output, message: Detections) -> None:
        output.window_frames += 1
        for label, count in message.counts:
            output.window_counts[label] = output.window_counts.get(label, 0) + count

    def _summarise(self, stream: str, output: _Output, now_s: float) -> None:
        if output.window_since_s is not None:
            # The start is computed back, because the wall clock may have been set within the window.
            to_unix_s = time.time()
            summary = Summary(
                seq=output.seq,
                from_=utc_text(to_unix_s - (now_s - output.window_since_s)),
                to=utc_text(to_unix_s),
                frames=output.window_frames,
                counts=output.window_counts,
            )
            self._send_summary(stream, msgspec.json.encode(summary))
            output.seq += 1
            output.published += 1
        output.window_since_s, output.window_frames, output.window_counts = now_s, 0, {}


def _add_stages(totals_ms: dict[str, float], one: StageTimes, latency_ms: float) -> None:
    """Add one frame's stage times in ms; the rest of its latency counts as the stage `publish`."""
    totals_ms["capture"] += one.capture
    totals_ms["wait"] += one.wait
    totals_ms["preprocess"] += one.preprocess
    totals_ms["infer"] += one.infer
    totals_ms["decode"] += one.decode
    totals_ms["publish"] += latency_ms - one.capture - one.wait - one.preprocess - one.infer - one.decode
