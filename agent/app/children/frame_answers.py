"""Frame timing of each stream, from slots, worker heartbeats and detections."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agent.control.events import Seen
from agent.control.state import Line
from agent.messages.children import Detections, StreamProgress
from agent.processes.slots.frame_slot import SlotCounters
from agent.settings import StreamSettings

_NEWEST: Final = 0.25
"""Weight of the newest inference in the moving average."""


@dataclass
class _Stream:
    line: str
    group: str
    steady: bool
    taken_s: float = 0.0
    answered_s: float = 0.0
    model: str = ""
    """Model that answered last."""
    infer_s: float = 0.0
    """Moving average in s of the inference time of the frames that `model` answered."""
    usual_s: float = 0.0
    """Usual inference time in s as the worker reports it, which it knows before the first answer."""
    missed_s: float = 0.0
    missed: int = 0


class Answers:
    """Frame timing of all streams, for the loop's thread."""

    def __init__(self, streams: tuple[StreamSettings, ...], groups: Mapping[str, str]) -> None:
        """Create a record for each stream; `groups` is the group of each line."""
        self._streams: Final = {one.id: _Stream(one.line, groups[one.line], steady=one.stall_s > 0) for one in streams}

    def answered(self, message: Detections) -> None:
        """Record that a frame was answered with these detections."""
        stream = self._streams[message.stream]
        stream.answered_s = time.monotonic()
        stream.missed = 0
        if message.model != stream.model:
            stream.model, stream.infer_s = message.model, 0.0
        infer_s = message.stages_ms.infer / 1000
        stream.infer_s += (infer_s - stream.infer_s) * (_NEWEST if stream.infer_s else 1.0)

    def told(self, streams: Iterable[StreamProgress]) -> None:
        """Record the worker's progress report; an answer counts from when the worker gave it."""
        for one in streams:
            stream = self._streams[one.stream]
            stream.answered_s = max(stream.answered_s, one.answered_ns / 1e9)
            stream.taken_s = one.taken_ns / 1e9
            stream.missed_s, stream.missed = one.missed_ns / 1e9, one.missed
            stream.usual_s = one.infer_ns / 1e9

    def worker_lost(self, streams: Iterable[str]) -> None:
        """Forget frames in flight of these streams, because a lost worker answers none."""
        for id_ in streams:
            stream = self._streams[id_]
            stream.missed, stream.infer_s, stream.usual_s = 0, 0.0, 0.0

    def turns_s(self) -> dict[str, float]:
        """Return what one inference for each stream of a group usually takes together, in s; 0 where it is unknown."""
        turns: dict[str, float] = {}
        for stream in self._streams.values():
            turns[stream.group] = turns.get(stream.group, 0.0) + stream.usual_s
        return turns

    def seen(self, counters: Mapping[str, SlotCounters], lines: Iterable[Line]) -> dict[str, Seen]:
        """Return the frame timing of every stream."""
        active = {line.id: line.serving.model for line in lines}
        served_by = {id_: (stream.group, active[stream.line]) for id_, stream in self._streams.items()}
        longest_s: dict[tuple[str, str | None], float] = {}
        for id_, stream in self._streams.items():
            model = active[stream.line]
            # Because the average of a slow model before it says nothing of the one that serves now.
            infer_s = max(stream.usual_s, stream.infer_s if stream.model == model else 0.0)
            longest_s[served_by[id_]] = max(longest_s.get(served_by[id_], 0.0), infer_s)
        served = Counter(served_by.values())
        return {
            id_: Seen(
                offered_s=counters[id_].last_offered_ns / 1e9,
                taken_s=stream.taken_s,
                answered_s=stream.answered_s,
                missed_s=stream.missed_s,
                missed=stream.missed,
                waiting=counters[id_].offered > counters[id_].overwritten + counters[id_].taken,
                infer_s=longest_s[served_by[id_]],
                turn_s=longest_s[served_by[id_]] * served[served_by[id_]],
                steady=stream.steady,
            )
            for id_, stream in self._streams.items()
        }
