"""State of one stream, computed from its messages."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime, timezone
from math import ceil
from typing import Final, get_args

import msgspec

from agent.messages.payloads import DetectionsPayload, StreamHealth, StreamStatus, Summary
from agent.watch.board.rows import StreamRow
from agent.watch.board.seen import counted, words_of
from agent.watch.board.topic_message import TopicMessage, one_of

WINDOW_S: Final = 2.0
_FIRST_WINDOW_S: Final = 0.5
_LATENCIES: Final = 256
_ARRIVALS: Final = 4096
"""Limit of remembered arrivals in a window; above 2048 frames a second the rate reads low."""
_FEW_FRAMES: Final = 20


class StreamFold:
    """Status, rate, latency and last frame of one stream; for one thread."""

    def __init__(self, stream: str, now_s: float) -> None:
        self._stream: Final = stream
        self._since_s: Final = now_s
        self._status: str | None = None
        self._line = ""
        self._model: str | None = None
        self._objects: tuple[str, ...] = ()
        self._arrivals: Final[deque[float]] = deque(maxlen=_ARRIVALS)
        self._latencies_ms: Final[deque[float]] = deque(maxlen=_LATENCIES)
        self._messages = 0
        self._seq = -1
        self._replayed = 0
        self._summary: tuple[float, float] | None = None

    @property
    def is_cleared(self) -> bool:
        """True where the retained status is empty and no frame or summary came."""
        return self._status is None and not self._messages and self._summary is None

    def take(self, said: TopicMessage) -> None:
        """Update the state with one message of the topic `stream/{stream}/{name}`."""
        match said.name:
            case "status":
                self._status = one_of(get_args(StreamStatus), said.payload)
            case "detections" if not said.retained:
                self._frame(msgspec.json.decode(said.payload, type=DetectionsPayload), said.at_s)
            case "replay":
                self._replayed += 1
            case "summary" if not said.retained:
                self._summarise(msgspec.json.decode(said.payload, type=Summary), said.at_s)

    def row(self, now_s: float, line: str | None, health: StreamHealth | None) -> StreamRow:
        """Return the row as of `now_s`; `line` comes from `meta`, `health` from the last report; None: not known."""
        while self._arrivals and self._arrivals[0] <= now_s - WINDOW_S:
            self._arrivals.popleft()
        p50_ms, p99_ms = self._latency(health)
        return StreamRow(
            stream=self._stream,
            line=line or self._line,
            status=self._status,
            fps=self._fps(now_s, health),
            p50_ms=p50_ms,
            p99_ms=p99_ms,
            objects=self._objects,
            model=self._model,
            dropped=health.dropped if health else None,
            replayed=self._replayed,
        )

    def _latency(self, health: StreamHealth | None) -> tuple[float | None, float | None]:
        if self._latencies_ms or health is None:
            return percentile(self._latencies_ms, 50), percentile(self._latencies_ms, 99)
        return health.latency_ms.get("p50"), health.latency_ms.get("p99")

    def _fps(self, now_s: float, health: StreamHealth | None) -> float:
        if self._summary is not None and now_s - self._summary[1] <= WINDOW_S:
            return self._summary[0]
        # The device's own count, because `publish = "changes"` sends a fraction of the frames.
        if health is not None and health.inferred > _FEW_FRAMES + 2 * (self._seq + 1):
            return health.fps
        return len(self._arrivals) / min(WINDOW_S, max(_FIRST_WINDOW_S, now_s - self._since_s))

    def _frame(self, frame: DetectionsPayload, now_s: float) -> None:
        self._messages += 1
        self._seq = frame.seq
        self._line, self._model = frame.line, frame.model
        self._objects = words_of(frame)
        self._arrivals.append(now_s)
        self._latencies_ms.append(frame.latency_ms)

    def _summarise(self, summary: Summary, now_s: float) -> None:
        passed_s = (_moment(summary.to) - _moment(summary.from_)).total_seconds()
        self._summary = (summary.frames / passed_s if passed_s > 0 else 0.0, now_s)
        self._objects = counted(summary.counts)


def percentile(values: Sequence[float], share: int) -> float | None:
    """Return the nearest-rank percentile; None without values."""
    ordered = sorted(values)
    return ordered[max(0, ceil(len(ordered) * share / 100) - 1)] if ordered else None


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
