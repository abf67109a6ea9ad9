"""Operator commands of `cmd/{verb}`: rollback and reload."""

from typing import Any, Final

from agent.control.actions import Action, Reload
from agent.control.events import Reloaded
from agent.control.lines.changeover import answer, begin
from agent.control.lines.policy import choose
from agent.control.lines.report import alert, clear_ready_unless_true
from agent.control.state import Command, Line, Now, State
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference, ModelVersion

VERBS: Final = ("rollback", "reload")
_WAITING_RELOADS: Final = 16


def run(state: State, verb: str, content: object, command: Command, now: Now) -> list[Action]:
    """Execute one operator command."""
    if verb not in VERBS:
        return _refuse(state, command, f"the verbs are {', '.join(VERBS)}")
    if not isinstance(content, dict):
        return _refuse(state, command, 'expected a JSON object such as {"id": "a1", "line": "line-1"}')
    if verb == "reload":
        return _reload(state, command)
    name = content.get("line")
    line = state.lines.get(name) if isinstance(name, str) else _only_line(state, name)
    if line is None:
        detail = "say which line" if name is None else f"no line {str(name)[:64]!r} on this device"
        return answer(state, command, "rejected", "unknown_line", detail)
    return _roll_back(state, line, command, now)


def reloaded(state: State, event: Reloaded) -> list[Action]:
    """Apply a configuration that was read again, or report its mistake."""
    waiting, state.reloading = state.reloading, []
    actions: list[Action] = []
    if event.plant is None:
        for command in waiting:
            actions += answer(state, command, "failed", "not_understood", event.detail[:500])
        return actions
    own = state.scheduling.text is None
    state.plant = event.plant
    state.scheduling.rules = event.plant.schedule if own else state.scheduling.rules
    state.scheduling.valid_until_s = 0.0
    for line in state.lines.values():
        line.rules = event.plant.lines[line.id]
        line.bandwidth_on = frozenset()
        actions += clear_ready_unless_true(state, line)
        actions += _recheck_product(state, line)
    for command in waiting:
        actions += answer(state, command, "done", None, event.detail or None)
    return actions


def _recheck_product(state: State, line: Line) -> list[Action]:
    """Raise or clear the fault of an unknown product after a reload."""
    if (line.fault == "unknown_product") == (line.product is not None and not line.product_known):
        return []
    if line.fault == "unknown_product":
        line.fault = None
        return alert(state, Alert("unknown_product", on=False, line=line.id))
    line.fault = "unknown_product"
    detail = f"no product {line.product!r} in the configuration of {line.id} any more"
    return alert(state, Alert("unknown_product", on=True, line=line.id, detail=detail))


def _reload(state: State, command: Command) -> list[Action]:
    if len(state.reloading) >= _WAITING_RELOADS:
        return answer(state, command, "noop", None, "a reload is under way")
    state.reloading.append(command)
    return [*answer(state, command, "accepted"), *([Reload()] if len(state.reloading) == 1 else [])]


def previous(state: State, line: Line, present: ModelVersion | None) -> ModelReference | None:
    """Return the newest earlier reference of the present model; None without one."""
    for text in reversed(line.history):
        reference = ModelReference.parse(text)
        if reference is None or present is None or reference.name != present.name:
            continue
        if str(reference) != present.reference and state.plant.find(reference, line.rules.variant) is not None:
            return reference
    return None


def _roll_back(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    """Return the line to its previous reference of the same model."""
    present = choose(state.plant, line).asked
    reference = previous(state, line, present)
    if reference is None:
        detail = f"{line.id} has served no other reference of {present.name if present else 'its model'}"
        return answer(state, command, "rejected", "nothing_to_roll_back", detail)
    line.history = line.history[: line.history.index(str(reference)) + 1]
    line.rollback, line.rollback_cause = reference, Cause("rollback", command.topic, line.id)
    return begin(state, line, [command], now)


def _only_line(state: State, name: Any) -> Line | None:  # noqa: ANN401 - JSON is any of its types
    """Return the only line of the device where the command names none."""
    return next(iter(state.lines.values())) if name is None and len(state.lines) == 1 else None


def _refuse(state: State, command: Command, detail: str) -> list[Action]:
    return answer(state, command, "rejected", "not_understood", detail)
