"""What comes from the broker: understood, or refused with a reason and without a change."""

from collections.abc import Callable
from typing import Final

from agent.control.actions import Action, Answer, Probe, Remember
from agent.control.changeover import abandon, answer, begin, rejected
from agent.control.policy import product_model
from agent.control.report import alert, withdraw_ready
from agent.control.state import Command, Line, Now, State
from agent.control.values import Value, ValueRefusedError, decode
from agent.messages.events import Received
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference

PRODUCT_SET: Final = "product/set"
MODEL_SET: Final = "model/set"
GIVE_BACK: Final = "auto"
_PROBE_INTERVAL_S: Final = 1.0
_WAITING_COMMANDS: Final = 64
"""Repetitions of one command that are answered when its changeover ends; more are answered at once."""

_Handler = Callable[[State, Line, Value, Command, Now], list[Action]]


def filters(base: str) -> list[str]:
    """Return the topic filters to subscribe to."""
    return [f"{base}/line/+/{PRODUCT_SET}", f"{base}/line/+/{MODEL_SET}"]


def received(state: State, message: Received, now: Now) -> list[Action]:
    """Take one message. Whatever it is, the answer is a list of actions, never an exception."""
    line_id, _, verb = message.topic.removeprefix(f"{state.plant.base}/line/").partition("/")
    line = state.lines.get(line_id)
    if verb not in _HANDLERS or (line is not None and not _is_command(state, message)):
        return []
    try:
        value = decode(message.payload)
    except ValueRefusedError as error:
        command = Command(message.topic, error.command_id, message.reply)
        return answer(state, command, "rejected", error.reason, str(error))
    if value is None:
        return []
    command = Command(message.topic, value.command_id, message.reply)
    if line is None:
        return answer(state, command, "rejected", "unknown_line", f"no line {line_id[:64]!r} on this device")
    return _handle(state, line, value, command, now)


def _handle(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    first = state.answers.get((command.topic, command.id)) if command.id else None
    if first is not None:
        return [Answer(first, command.reply)]
    if value.expires_unix_s is not None and now.unix_s > value.expires_unix_s:
        return answer(state, command, "rejected", "expired", "its time to live had passed when it came")
    verb = command.topic.removeprefix(f"{state.plant.base}/line/{line.id}/")
    return [*_HANDLERS[verb](state, line, value, command, now), Remember()]


def link_up(state: State) -> list[Action]:
    """Forget what was seen of retained messages: the first one of each topic on a new link may be news."""
    state.probed.clear()
    state.probe_due.clear()
    return []


def probes(state: State, now: Now) -> list[Action]:
    """Ask, at most once a second, what the broker retains on topics where live messages came (see decision 0005)."""
    if not state.probe_due or now.monotonic_s < state.probe_due_s:
        return []
    state.probe_due_s = now.monotonic_s + _PROBE_INTERVAL_S
    due, state.probe_due = sorted(state.probe_due), set()
    return [Probe(filter_) for filter_ in due]


def _is_command(state: State, message: Received) -> bool:
    """Tell a command from a retained message that is known already."""
    if not message.retained:
        state.probed.add(message.topic)
        state.probe_due.update(_filter_of(state, message.topic))
        return True
    is_first = message.topic not in state.probed
    state.probed.add(message.topic)
    is_news = state.retained.get(message.topic) != message.payload
    state.retained[message.topic] = message.payload
    return is_first and is_news


def _filter_of(state: State, topic: str) -> list[str]:
    verb = topic.removeprefix(f"{state.plant.base}/line/").partition("/")[2]
    return [filter_ for filter_ in filters(state.plant.base) if filter_.endswith(f"+/{verb}")]


def _set_product(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    product = value.text
    cause = Cause("product", command.topic, product)
    if product not in line.rules.products:
        return _refuse_product(state, line, cause, command, now)
    if product == line.product and line.fault is None:
        return _repeat_product(state, line, command)
    actions = withdraw_ready(line)
    line.product, line.product_cause = product, cause
    actions += alert(state, Alert("unknown_product", on=False, line=line.id))
    if product_model(state.plant, line) is None:
        return actions + answer(state, command, "rejected", "unknown_model", "the catalog lacks the product's model")
    if line.operator is not None:
        line.fault = line.standing_fault
        return actions + answer(state, command, "noop", "overridden", f"an operator chose {line.operator}")
    return actions + begin(state, line, [command], now)


def _repeat_product(state: State, line: Line, command: Command) -> list[Action]:
    """Change nothing; while the product's changeover is under way, its end answers this command too."""
    pending = line.changeover
    if pending is None or pending.product != line.product:
        return answer(state, command, "noop")
    if len(pending.commands) >= _WAITING_COMMANDS:
        return answer(state, command, "noop", None, "the same changeover is under way")
    pending.commands.append(command)
    return answer(state, command, "accepted")


def _refuse_product(state: State, line: Line, cause: Cause, command: Command, now: Now) -> list[Action]:
    """Stop the line for a product that nothing here can check: `ready` 0, the model kept."""
    product = cause.value
    detail = f"no product {product!r} in the configuration of {line.id}"
    actions = withdraw_ready(line)
    if product != line.product:
        actions += abandon(state, line, now)
        actions.append(rejected(line, cause, "unknown_product", now))
    line.product, line.product_cause, line.fault = product, cause, "unknown_product"
    actions += answer(state, command, "rejected", "unknown_product", detail)
    return actions + alert(state, Alert("unknown_product", on=True, line=line.id, detail=detail))


def _set_model(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    if value.text == GIVE_BACK:
        return _give_back(state, line, command, now)
    reference = ModelReference.parse(value.text)
    wanted = state.plant.find(reference, line.rules.variant) if reference else None
    if reference is None or wanted is None:
        return answer(state, command, "rejected", "unknown_model", f"the catalog has no {value.text!r}")
    is_same = wanted == line.target and line.operator is not None
    line.operator, line.operator_cause = reference, Cause("operator", command.topic, value.text)
    if is_same and line.changeover is None and line.fault is None:
        return answer(state, command, "noop")
    return begin(state, line, [command], now)


def _give_back(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    if line.operator is None:
        return answer(state, command, "noop")
    line.operator = line.operator_cause = None
    if line.standing_fault:
        line.fault = line.standing_fault
        return answer(state, command, "done")
    return begin(state, line, [command], now)


_HANDLERS: Final[dict[str, _Handler]] = {PRODUCT_SET: _set_product, MODEL_SET: _set_model}
