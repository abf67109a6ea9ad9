"""Time that a line spends without the model that it had."""

from agent.control.state import Line, Now
from agent.messages.children import SwapReport


def begin(line: Line, now: Now) -> None:
    """Start the blind time, unless it runs already."""
    if line.blind_since_s is None:
        line.blind_since_s = now.monotonic_s


def end(line: Line) -> None:
    """End the blind time, if a model serves the line."""
    if line.active is not None:
        line.blind_since_s = None


def so_far_ms(line: Line, report: SwapReport | None, now: Now) -> float:
    """Return the blind time: the worker's measurement, else control's; 0 for a line without a model before."""
    if report is not None and report.blind_ms:
        return report.blind_ms
    return round((now.monotonic_s - line.blind_since_s) * 1000, 1) if line.blind_since_s is not None else 0.0
