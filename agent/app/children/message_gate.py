"""Validation of messages from child processes, which handle untrusted model files and video streams."""

import math
from collections.abc import Collection
from functools import singledispatchmethod
from typing import Final

from agent.control.comparisons.count_checks import oddity_of
from agent.messages import children
from agent.messages.canary import Compared
from agent.messages.children import Message, StageTimes, SwapReport
from agent.messages.groups.memory_share import ShareAsked, ShareHeld
from agent.messages.short_lived.supply import FetchProgress

_LONGEST_MS: Final = 86_400_000.0
_MOST: Final = 1 << 62


class Gate:
    """Validator that refuses messages about unknown lines or streams, or with impossible values."""

    def __init__(self, lines: Collection[str], streams: Collection[str]) -> None:
        self._lines: Final = frozenset(lines)
        self._streams: Final = frozenset(streams)

    def why_not(self, message: Message, now_ns: int) -> str | None:
        """Return the reason to refuse a message of worker or supply, else None; `now_ns` is CLOCK_MONOTONIC."""
        line, stream = getattr(message, "line", None), getattr(message, "stream", None)
        if line is not None and line not in self._lines:
            return f"no line {line!r}"
        if stream is not None and stream not in self._streams:
            return f"no stream {stream!r}"
        return self._impossible(message, now_ns)

    def why_not_of_camera(self, stream: str, message: Message) -> str | None:
        """Return the reason to refuse a message from the camera process of `stream`, or None to accept it."""
        named = getattr(message, "stream", stream)
        return None if named == stream else f"it is the camera of {stream!r}, not of {named!r}"

    @singledispatchmethod
    def _impossible(self, _message: Message, _now_ns: int) -> str | None:
        return None

    @_impossible.register
    def _(self, message: children.Detections, now_ns: int) -> str | None:
        if not 0 <= message.captured_ns <= now_ns:
            return f"captured_ns {message.captured_ns}"
        if not 0 <= message.frame <= _MOST or any(not 0 <= count <= _MOST for _, count in message.counts):
            return f"frame {message.frame}, counts {message.counts[:4]}"
        if not (message.tail.startswith(b'"') and message.tail.endswith(b"}")):
            return "no JSON of ours"
        return None if _are_times(message.stages_ms) else f"stages {message.stages_ms}"

    @_impossible.register
    def _(self, message: children.Swapped, _now_ns: int) -> str | None:
        report = message.report
        return None if _is_report(report) else f"report {report}"

    @_impossible.register
    def _(self, message: children.InferenceFailed, _now_ns: int) -> str | None:
        return None if 0 <= message.in_a_row <= _MOST else f"in_a_row {message.in_a_row}"

    @_impossible.register
    def _(self, message: children.CacheState, _now_ns: int) -> str | None:
        sizes = [message.budget_bytes, message.used_bytes, message.device_used_bytes]
        sizes += [model.bytes for model in message.models]
        for pool in (message.pools or {}).values():
            sizes += (pool.budget_bytes, pool.used_bytes, pool.runtime_bytes)
        for model in message.models:
            sizes += (model.pools or {}).values()
        return None if all(0 <= size <= _MOST for size in sizes) else f"bytes {sizes[:8]}"

    @_impossible.register(ShareAsked)
    @_impossible.register(ShareHeld)
    def _(self, message: ShareAsked | ShareHeld, _now_ns: int) -> str | None:
        sizes = (message.limit.host_bytes, message.limit.device_bytes)
        return None if all(0 <= size <= _MOST for size in sizes) else f"bytes {sizes}"

    @_impossible.register
    def _(self, message: FetchProgress, _now_ns: int) -> str | None:
        numbers = (message.bytes, message.total, message.kbps, message.eta_s or 0.0)
        return None if all(0 <= one <= _MOST for one in numbers) else f"progress {numbers}"

    @_impossible.register
    def _(self, message: children.MemoryKept, _now_ns: int) -> str | None:
        return None if 0 <= message.bytes <= _MOST else f"bytes {message.bytes}"

    @_impossible.register
    def _(self, message: Compared, _now_ns: int) -> str | None:
        return oddity_of(message.counts)

    @_impossible.register
    def _(self, message: children.Beat, now_ns: int) -> str | None:
        for one in message.streams:
            if one.stream not in self._streams:
                return f"no stream {one.stream!r}"
            moments = (one.taken_ns, one.answered_ns, one.missed_ns)
            if any(not 0 <= moment <= now_ns for moment in moments):
                return f"progress {one}"
            if not 0 <= one.missed <= _MOST or not 0 <= one.infer_ns <= _MOST:
                return f"progress {one}"
        return None


def _is_report(report: SwapReport) -> bool:
    times_ms = (report.load_ms, report.warmup_ms, report.blind_ms)
    return all(math.isfinite(one) and one >= 0 for one in times_ms) and 0 <= report.frames_lost <= _MOST


def _are_times(stages: StageTimes) -> bool:
    times_ms = (stages.capture, stages.wait, stages.preprocess, stages.infer, stages.decode)
    return all(-_LONGEST_MS <= one <= _LONGEST_MS for one in times_ms)  # also False for NaN
