"""Since when a line is without the model that it had: taken off to make room, or lost with its worker."""

from agent.control.state import Line, Now
from agent.messages.children import SwapReport


def begin(line: Line, now: Now) -> None:
    """Note that the line's model is going; nothing where it is gone already."""
    if line.blind_since_s is None:
        line.blind_since_s = now.monotonic_s


def end(line: Line) -> None:
    """Note that a model serves the line, if one does."""
    if line.active is not None:
        line.blind_since_s = None


def so_far_ms(line: Line, report: SwapReport | None, now: Now) -> float:
    """Return the blind time: the worker's, where it measured all of it; 0 where the line never had a model."""
    if report is not None and report.blind_ms:
        return report.blind_ms
    return round((now.monotonic_s - line.blind_since_s) * 1000, 1) if line.blind_since_s is not None else 0.0
