"""What a PLC and an operator choose for a line: `product/set` and `model/set`."""

from typing import Final

from agent.control.actions import Action
from agent.control.changeover import abandon, answer, begin, rejected
from agent.control.pending import WAITING_COMMANDS
from agent.control.policy import choose, product_model
from agent.control.report import alert, withdraw_ready
from agent.control.state import Command, Line, Now, State
from agent.control.values import Value
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference

GIVE_BACK: Final = "auto"


def set_product(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Turn the line over to a product; one that nobody knows stops it."""
    product = value.text
    cause = Cause("product", command.topic, product)
    if product not in line.rules.products:
        return _refuse_product(state, line, cause, command, now)
    if product == line.product and line.fault is None:
        return _repeat_product(state, line, command)
    actions = withdraw_ready(line)
    if product != line.product or line.was_taken_back:
        line.rollback = line.rollback_cause = None
    line.product, line.product_cause = product, cause
    actions += alert(state, Alert("unknown_product", on=False, line=line.id))
    if product_model(state.plant, line) is None:
        return actions + answer(state, command, "rejected", "unknown_model", "the catalog lacks the product's model")
    if line.operator is not None:
        line.fault = line.standing_fault
        return actions + answer(state, command, "noop", "overridden", f"an operator chose {line.operator}")
    return actions + begin(state, line, [command], now)


def set_model(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Put an operator's model on the line, above its product, until `auto` gives the choice back."""
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
    if before is not None and before == choose(state.plant, line).asked and line.fault is None:
        return answer(state, command, "noop") if pending is None else join(state, line, pending.commands, command)
    return begin(state, line, [command], now)


def join(state: State, line: Line, others: list[Command], command: Command) -> list[Action]:
    """Answer a repeated command when what it repeats is done; too many of them at once."""
    if len(others) >= WAITING_COMMANDS:
        return answer(state, command, "noop", None, f"{line.id}: the same is under way")
    others.append(command)
    return answer(state, command, "accepted")


def _repeat_product(state: State, line: Line, command: Command) -> list[Action]:
    """Change nothing; while the product's changeover is under way (or waits for a worker), its end answers this too."""
    if line.operator is not None:
        return answer(state, command, "noop", "overridden", f"an operator chose {line.operator}")
    if line.target is None:
        return join(state, line, line.waiting, command)
    pending = line.changeover
    if pending is None or pending.product != line.product or line.ready == line.product:
        return answer(state, command, "noop")
    return join(state, line, pending.commands, command)


def _refuse_product(state: State, line: Line, cause: Cause, command: Command, now: Now) -> list[Action]:
    """Stop the line for a product that nothing here can check: `ready` 0, the model kept."""
    product = cause.value
    detail = f"no product {product!r} in the configuration of {line.id}"
    actions = withdraw_ready(line)
    if product != line.product:
        # An operator's choice outlives it; what the product before had asked for does not.
        if line.operator is None:
            line.rollback = line.rollback_cause = None
            actions += abandon(state, line, now)
        actions.append(rejected(line, cause, "unknown_product", now))
    line.product, line.product_cause, line.fault = product, cause, "unknown_product"
    actions += answer(state, command, "rejected", "unknown_product", detail)
    return actions + alert(state, Alert("unknown_product", on=True, line=line.id, detail=detail))


def _give_back(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    if line.operator is None and line.rollback is None:
        return answer(state, command, "noop")
    line.operator = line.operator_cause = line.rollback = line.rollback_cause = None
    if line.standing_fault:
        line.fault = line.standing_fault
        return [*abandon(state, line, now), *answer(state, command, "done")]
    return begin(state, line, [command], now)
