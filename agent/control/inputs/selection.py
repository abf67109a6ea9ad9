"""Selection of product and model for a line: `product/set` and `model/set`."""

from typing import Final

from agent.control.actions import Action
from agent.control.decoding.values import Value
from agent.control.lines.changeover import answer, begin, cancel, rejected
from agent.control.lines.command_replay import WAITING_COMMANDS
from agent.control.lines.policy import choose
from agent.control.lines.report import alert, clear_ready
from agent.control.state import Command, Line, Now, State
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference

GIVE_BACK: Final = "auto"


def set_product(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Change a line's product; an unknown product stops the line."""
    product = value.text
    cause = Cause("product", command.topic, product)
    if product not in line.rules.products:
        return _refuse_product(state, line, cause, command, now)
    lacks_model = state.plant.find(line.rules.products[product], line.rules.variant) is None
    has_choice = line.target is not None or not state.worker_up
    is_well = has_choice and (line.fault is None or line.ready == product)
    if product == line.product and is_well and not lacks_model:
        return _repeat_product(state, line, command)
    actions = clear_ready(line)
    if product != line.product or line.was_taken_back:
        line.rollback = line.rollback_cause = None
    is_another, line.product, line.product_cause = product != line.product, product, cause
    actions += alert(state, Alert("unknown_product", on=False, line=line.id))
    if lacks_model:
        return actions + _refuse_model(state, line, command, now, is_another=is_another)
    if line.operator is not None:
        line.fault = line.standing_fault if line.fault == "unknown_product" else line.fault
        return actions + answer(state, command, "noop", "overridden", f"an operator chose {line.operator}")
    return actions + begin(state, line, [command], now)


def set_model(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Select an operator's model, which overrides the product until `auto` gives the choice back."""
    if value.text == GIVE_BACK:
        return _give_back(state, line, command, now)
    reference = ModelReference.parse(value.text)
    wanted = state.plant.find(reference, line.rules.variant) if reference else None
    if reference is None or wanted is None:
        return answer(state, command, "rejected", "unknown_model", f"the catalog has no {value.text!r}")
    before = choose(state.plant, line).asked if line.operator is not None and line.rollback is None else None
    line.rollback = line.rollback_cause = None
    line.operator, line.operator_cause = reference, Cause("operator", command.topic, value.text)
    pending = line.changeover
    if before is not None and before == choose(state.plant, line).asked and line.fault == line.standing_fault:
        return answer(state, command, "noop") if pending is None else join(state, line, pending.commands, command)
    return begin(state, line, [command], now)


def join(state: State, line: Line, others: list[Command], command: Command) -> list[Action]:
    """Answer a repeated command together with the pending one; beyond the limit answer it at once."""
    if len(others) >= WAITING_COMMANDS:
        return answer(state, command, "noop", None, f"{line.id}: the same is under way")
    others.append(command)
    return answer(state, command, "accepted")


def _repeat_product(state: State, line: Line, command: Command) -> list[Action]:
    """Change nothing; the end of a changeover in progress answers this command, too."""
    if line.operator is not None:
        return answer(state, command, "noop", "overridden", f"an operator chose {line.operator}")
    if line.target is None:
        return join(state, line, line.waiting, command)
    pending = line.changeover
    if pending is None or pending.product != line.product or line.ready == line.product:
        return answer(state, command, "noop")
    return join(state, line, pending.commands, command)


def _refuse_product(state: State, line: Line, cause: Cause, command: Command, now: Now) -> list[Action]:
    """Stop the line for an unknown product: `ready` 0, and the model stays."""
    product = cause.value
    detail = f"no product {product!r} in the configuration of {line.id}"
    actions = clear_ready(line)
    is_another, line.product = product != line.product, product
    if is_another:
        # An operator's choice stays, because it overrides products; the earlier product's changeover does not.
        if line.operator is None:
            line.rollback = line.rollback_cause = None
            actions += cancel(state, line, now)
        actions.append(rejected(line, cause, "unknown_product", now))
    line.product_cause, line.fault = cause, "unknown_product"
    actions += answer(state, command, "rejected", "unknown_product", detail)
    return actions + alert(state, Alert("unknown_product", on=True, line=line.id, detail=detail))


def _refuse_model(state: State, line: Line, command: Command, now: Now, *, is_another: bool) -> list[Action]:
    """Stop the line for a product whose model the catalog lacks."""
    assert line.product is not None, "it was just taken"
    actions: list[Action] = []
    if is_another:
        actions += cancel(state, line, now) if line.operator is None else []
        actions.append(rejected(line, line.product_cause or Cause("product"), "unknown_model", now))
    line.fault = line.standing_fault
    detail = f"the catalog lacks {line.rules.products[line.product]}, the model of {line.product!r}"
    return actions + answer(state, command, "rejected", "unknown_model", detail)


def _give_back(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    if line.operator is None and line.rollback is None:
        return answer(state, command, "noop")
    line.operator = line.operator_cause = line.rollback = line.rollback_cause = None
    if line.standing_fault or choose(state.plant, line).wanted is None:
        line.fault = line.standing_fault
        return [*cancel(state, line, now), *answer(state, command, "done")]
    return begin(state, line, [command], now)
