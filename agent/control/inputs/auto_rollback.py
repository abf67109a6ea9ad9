"""Automatic rollback of a model whose frames fail soon after a swap."""

from dataclasses import replace
from typing import Final

from agent.control.actions import Action, AssignLine
from agent.control.lines import selection
from agent.control.lines.changeover import begin, end_trial
from agent.control.lines.policy import choose
from agent.control.lines.report import alert
from agent.control.state import Line, Now, Override, State
from agent.messages.children import InferenceFailed
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference

FAILURES: Final = 8
"""Failed frames in a row before the alert, because one bad frame is no trouble."""


def inference_failed(state: State, event: InferenceFailed, now: Now) -> list[Action]:
    """Raise the alert for a failing stream, and roll back a model that is still on trial."""
    is_bad = event.in_a_row >= FAILURES
    detail = f"{event.model}: {event.detail}" if is_bad else None
    actions = alert(state, Alert("inference_failed", on=is_bad, stream=event.stream, detail=detail))
    line = state.lines.get(state.plant.streams.get(event.stream, ""))
    if not is_bad or line is None or not _is_on_trial(line, event.model, now):
        return actions
    return actions + _take_back(state, line, event, now)


def follow(state: State, line: Line, _now: Now) -> list[Action]:
    """Keep the alert `rolled_back` on while an automatic rollback is in force."""
    rollback, detail = line.selection.rollback, None
    if rollback is not None and line.selection.was_taken_back:
        detail = f"{rollback.cause.value} failed on {FAILURES} frames in a row; {rollback.reference} serves instead"
    return alert(state, Alert("rolled_back", on=detail is not None, line=line.id, detail=detail))


def _is_on_trial(line: Line, model: str, now: Now) -> bool:
    """Return True where `model` serves since a swap in the last 60 s, and no rollback is in force."""
    is_serving = line.serving.model == model and line.changeover is None
    return is_serving and line.selection.rollback is None and now.monotonic_s < line.assignment.trial_until_s


def _take_back(state: State, line: Line, event: InferenceFailed, now: Now) -> list[Action]:
    """Return the line to the version of the model that served before, else to the model that served before it."""
    reference = selection.previous(state, line, choose(state.plant, line).asked) or _other(state, line, event.model)
    if reference is None:
        return []
    end_trial(line)
    selection.roll_back(line, Override(reference, Cause("rollback", value=event.model)))
    actions = begin(state, line, [], now)
    # `keeps_ready` is cleared, because it slows the load to protect frames, and these fail anyway.
    return [replace(one, keeps_ready=False) if isinstance(one, AssignLine) else one for one in actions]


def _other(state: State, line: Line, failed: str) -> ModelReference | None:
    """Return the newest reference of another model that served the line."""
    name = failed.partition(":")[0]
    for text in reversed(line.selection.history):
        reference = ModelReference.parse(text)
        if reference is None or reference.name == name:
            continue
        if state.plant.find(reference, line.rules.variant) is not None:
            return reference
    return None
