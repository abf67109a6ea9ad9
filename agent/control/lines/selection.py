"""Selection of a line: product, operator's model, rollback and history."""

from agent.control.actions import Action
from agent.control.lines.report import alert
from agent.control.state import Line, Now, Override, State
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference, ModelVersion

_KEPT_HISTORY = 32
_KEPT_DECISIONS = 16


def choose_product(line: Line, cause: Cause) -> None:
    """Record the product that a message named; a known one is added to the line's learned order."""
    line.selection.product, line.selection.product_cause = cause.value, cause
    if cause.value is not None and cause.value in line.rules.products:
        line.selection.order = line.selection.order.then(cause.value)


def choose_model(line: Line, operator: Override | None) -> None:
    """Record an operator's model, or None for the product's own; either ends a rollback."""
    line.selection.operator, line.selection.rollback = operator, None


def roll_back(line: Line, rollback: Override | None) -> None:
    """Record a rollback; None ends it."""
    line.selection.rollback = rollback


def prefer(line: Line, reference: str, over: str) -> None:
    """Record that a comparison decided for one version over another; both are full references."""
    instead = {one: other for one, other in line.selection.instead.items() if one not in {reference, over}}
    line.selection.instead = dict([*instead.items(), (over, reference)][-_KEPT_DECISIONS:])


def served(line: Line, reference: str) -> None:
    """Add a reference that serves by decision to the history."""
    earlier = (one for one in line.selection.history if one != reference)
    line.selection.history = (*earlier, reference)[-_KEPT_HISTORY:]


def forget_after(line: Line, reference: ModelReference) -> None:
    """Drop the references that served after `reference` from the history."""
    history = line.selection.history
    line.selection.history = history[: history.index(str(reference)) + 1]


def previous(state: State, line: Line, present: ModelVersion | None) -> ModelReference | None:
    """Return the newest earlier reference of the present model; None without one."""
    for text in reversed(line.selection.history):
        reference = ModelReference.parse(text)
        if reference is None or present is None or reference.name != present.name:
            continue
        if str(reference) != present.reference and state.plant.find(reference, line.rules.variant) is not None:
            return reference
    return None


def miss_choice(state: State, line: Line, _now: Now) -> list[Action]:
    """Update the alert `choice_lost`, which is on until a line whose choice was lost has a product or model again."""
    selection = line.selection
    if selection.is_lost and (selection.product is not None or selection.operator is not None):
        selection.is_lost, state.unsaved = False, True
    detail = "its last choice could not be written before a restart; send its product again"
    lost = Alert("choice_lost", selection.is_lost, line=line.id, detail=detail if selection.is_lost else None)
    return alert(state, lost)
