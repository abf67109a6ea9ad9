"""The model that serves a line, and the time that the line spends without the model that it had."""

from agent.control.actions import Action
from agent.control.lines.policy import would_run
from agent.control.plant import Plant
from agent.control.state import Line, Now
from agent.messages.children import SwapReport
from agent.messages.references import ModelReference


def reported(line: Line, model: str | None) -> None:
    """Record the model that the worker reported; the time without a model still runs until `end_blind_time`."""
    line.serving.model = model
    line.serving.is_taken_off = line.serving.is_taken_off and model is None


def taken_off(line: Line, now: Now) -> list[Action]:
    """Record that the line's model is unloaded first, to make room for the next one."""
    line.serving.is_taken_off = True
    _begin_blind_time(line, now)
    return []


def lost(line: Line, now: Now) -> None:
    """Record that no model serves, because the worker ended."""
    if line.serving.model is not None:
        _begin_blind_time(line, now)
    line.serving.model, line.serving.is_taken_off, line.serving.left_by_cap = None, False, None


def end_blind_time(line: Line) -> None:
    """End the measured time without a model, if one serves the line now."""
    if line.serving.model is not None:
        line.serving.blind_since_s = None


def blind_ms(line: Line, report: SwapReport | None, now: Now) -> float:
    """Return the time in ms without a model, as the worker or else control measured it; 0 where there was none."""
    if report is not None and report.blind_ms:
        return report.blind_ms
    since_s = line.serving.blind_since_s
    return round((now.monotonic_s - since_s) * 1000, 1) if since_s is not None else 0.0


def note_cap(plant: Plant, line: Line) -> None:
    """Record the variant that serves only because of a cap."""
    own = line.rules.products.get(line.selection.product) if line.selection.product is not None else None
    active = ModelReference.parse(line.serving.model) if line.serving.model else None
    left = line.serving.left_by_cap
    line.serving.left_by_cap = None
    if own is None or own.variant is None or active is None or active.name != own.name or active.variant is None:
        return
    capped = would_run(plant, line, own)
    is_capped = active.variant != own.variant and capped is not None and capped.variant == active.variant
    if is_capped or left == (own, active.variant):
        line.serving.left_by_cap = (own, active.variant)


def forget_cap(line: Line) -> None:
    """Forget the variant that a cap left, because another one was asked for or failed."""
    line.serving.left_by_cap = None


def _begin_blind_time(line: Line, now: Now) -> None:
    if line.serving.blind_since_s is None:
        line.serving.blind_since_s = now.monotonic_s
