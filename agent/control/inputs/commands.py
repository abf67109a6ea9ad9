"""Commands from the broker: decoded, then executed or refused with a reason and without effect."""

from collections.abc import Callable
from typing import Any, Final

from agent.control.actions import Action, Answer, SaveSnapshot
from agent.control.canary import receive as receive_canary
from agent.control.decoding.values import MAX_PAYLOAD_BYTES, Document, Value, ValueRefusedError, decode, document
from agent.control.inputs import bandwidth, duplicate_device, operator_commands, retained, schedule
from agent.control.inputs.known_names import known
from agent.control.inputs.routes import RETAINABLE, Route, routes
from agent.control.lines import command_replay, preload, selection
from agent.control.lines.changeover import answer, begin, cancel, rejected
from agent.control.lines.policy import choose
from agent.control.lines.report import alert, clear_ready
from agent.control.orders import receive
from agent.control.state import Command, Line, Now, Override, State
from agent.messages.events import Received, Reply
from agent.messages.payloads import Alert, Cause
from agent.messages.references import ModelReference

GIVE_BACK: Final = "auto"
_LONGEST_REPLY: Final = 512
_LONGEST_CORRELATION_BYTES: Final = 1024

_OfLine = Callable[[State, Line, Value, Command, Now], list[Action]]


def received(state: State, message: Received, now: Now) -> list[Action]:
    """Handle one message. Whatever it contains, the result is a list of actions, never an exception."""
    found = routes(state.plant, message.topic)
    if not found:
        return duplicate_device.heard(state, message, now)
    if message.retained and found[0].kind not in RETAINABLE:
        return _refuse_retained(state, found[0], message)
    if not retained.is_command(state, message, found):
        return []
    return [action for route in found for action in _take(state, route, message, now)]


def _take(state: State, route: Route, message: Received, now: Now) -> list[Action]:
    line_id = route.name if route.kind != "cmd" else None
    reply = _bounded(message.reply)
    try:
        if route.kind in {"schedule/set", "models/set", "cmd"}:
            value: Value | Document | None = document(message.payload)
        elif route.kind == "canary/set":
            value = document(message.payload, MAX_PAYLOAD_BYTES)
        else:
            value = decode(message.payload, route.read)
    except ValueRefusedError as error:
        command = Command(message.topic, error.command_id, reply, line_id, message.user)
        return command_replay.again(state, command) or answer(state, command, "rejected", error.reason, str(error))
    if value is None:
        return []
    command = Command(message.topic, value.command_id, reply, line_id, message.user)
    repeated: list[Action] = []
    if route.kind == "models/set" and isinstance(value, Document):
        repeated = receive.refuse_id_in_use(state, value.content, command)
    repeated = repeated or command_replay.again(state, command)
    if repeated:
        return repeated
    if value.expires_unix_s is not None and now.unix_s > value.expires_unix_s:
        return answer(state, command, "rejected", "expired", "its time to live had passed when it came")
    actions = _dispatch(state, route, value, command, now)
    if any(isinstance(one, Answer) and (one.ack.id or one.ack.result in {"accepted", "done"}) for one in actions):
        return [*actions, SaveSnapshot()]
    # A refusal without an id is saved later, because a flood of them must not cost a disk write each.
    state.unsaved = state.unsaved or not _is_repetition(actions)
    return actions


def _dispatch(state: State, route: Route, value: Any, command: Command, now: Now) -> list[Action]:  # noqa: ANN401 - as decoded for the kind
    if route.kind in {"schedule/set", "bandwidth/set", "models/set", "cmd"}:
        return _of_device(state, route, value, command, now)
    line = state.lines.get(route.name)
    if line is None:
        detail = f"no line {route.name[:64]!r} on this device; {known('lines', state.lines)}"
        return answer(state, command, "rejected", "unknown_line", detail)
    if route.kind == "canary/set":
        return receive_canary.set_canary(state, line, value.content, command, now)
    return _OF_A_LINE[route.kind](state, line, value, command, now)


def _of_device(state: State, route: Route, value: Any, command: Command, now: Now) -> list[Action]:  # noqa: ANN401 - as decoded for the kind
    match route.kind:
        case "schedule/set":
            return schedule.set_schedule(state, value.content, command, now)
        case "bandwidth/set":
            return bandwidth.set_bandwidth(state, value.text, command)
        case "models/set":
            return receive.set_models(state, value.content, command, now)
    return operator_commands.run(state, route.name, value.content, command, now)


def set_product(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Change a line's product; an unknown product is refused and sets the line's `ready` to 0."""
    product = value.text
    cause = command.cause("product", product)
    if product not in line.rules.products:
        return _refuse_product(state, line, cause, command, now)
    lacks_model = state.plant.find(line.rules.products[product], line.rules.variant) is None
    has_choice = line.assignment.target is not None or not state.group_of(line).is_up
    is_well = has_choice and (not line.is_faulty or line.published.ready == product)
    is_another = product != line.selection.product
    if not is_another and is_well and not lacks_model:
        return _repeat_product(state, line, command)
    actions = clear_ready(line)
    if is_another or line.selection.was_taken_back:
        selection.roll_back(line, None)
    selection.choose_product(line, cause)
    actions += alert(state, Alert("unknown_product", on=False, line=line.id))
    if lacks_model:
        return actions + _refuse_model(state, line, command, now, is_another=is_another)
    if line.selection.operator is not None:
        return actions + _overridden(state, line.selection.operator, command)
    return actions + begin(state, line, [command], now)


def set_model(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Select an operator's model, which overrides the product's until the command `auto` ends this."""
    if value.text == GIVE_BACK:
        return _give_back(state, line, command, now)
    reference = ModelReference.parse(value.text)
    wanted = state.plant.find(reference, line.rules.variant) if reference else None
    if reference is None or wanted is None:
        return answer(
            state,
            command,
            "rejected",
            "unknown_model",
            f"the catalog has no {value.text!r}: see `changeover models list`",
        )
    is_chosen = line.selection.operator is not None and line.selection.rollback is None
    before = choose(state.plant, line).asked if is_chosen else None
    selection.choose_model(line, Override(reference, command.cause("operator", value.text)))
    pending = line.changeover
    if before is not None and before == choose(state.plant, line).asked and not line.assignment.failed:
        return answer(state, command, "noop") if pending is None else _join(state, line, pending.commands, command)
    return begin(state, line, [command], now)


def link_up(state: State, now: Now) -> list[Action]:
    """Forget which retained messages were seen, and send the final acks that were recorded as unsent."""
    state.probed.clear()
    state.probe_due.clear()
    acks, state.acks_to_resend = state.acks_to_resend, []
    return [*duplicate_device.link_up(state, now), *(Answer(ack, reply) for ack, reply in acks)]


def _repeat_product(state: State, line: Line, command: Command) -> list[Action]:
    """Answer a repeated product as `noop`, or with the end of a changeover to it that is in progress."""
    if line.selection.operator is not None:
        return _overridden(state, line.selection.operator, command)
    if line.assignment.target is None:
        return _join(state, line, line.assignment.waiting, command)
    pending = line.changeover
    if pending is None or pending.product != line.selection.product or line.published.ready == line.selection.product:
        return answer(state, command, "noop")
    return _join(state, line, pending.commands, command)


def _refuse_product(state: State, line: Line, cause: Cause, command: Command, now: Now) -> list[Action]:
    """Stop the line for an unknown product: `ready` 0, and the model stays."""
    product = cause.value
    detail = f"no product {product!r} in the configuration of {line.id}; {known('products', line.rules.products)}"
    actions, is_another = clear_ready(line), product != line.selection.product
    selection.choose_product(line, cause)
    if is_another:
        # An operator's choice stays, because it overrides products; the earlier product's changeover does not.
        if line.selection.operator is None:
            selection.roll_back(line, None)
            actions += cancel(state, line, now)
        actions.append(rejected(line, cause, "unknown_product", now))
    actions += answer(state, command, "rejected", "unknown_product", detail)
    return actions + alert(state, Alert("unknown_product", on=True, line=line.id, detail=detail))


def _refuse_model(state: State, line: Line, command: Command, now: Now, *, is_another: bool) -> list[Action]:
    """Stop the line for a product whose model the catalog lacks."""
    actions: list[Action] = []
    if is_another:
        actions += cancel(state, line, now) if line.selection.operator is None else []
        actions.append(rejected(line, line.selection.product_cause or Cause("product"), "unknown_model", now))
    detail = f"the catalog lacks {line.own}, the model of {line.selection.product!r}"
    return actions + answer(state, command, "rejected", "unknown_model", detail)


def _give_back(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    if line.selection.operator is None and line.selection.rollback is None:
        return answer(state, command, "noop")
    selection.choose_model(line, None)
    if line.is_selection_faulty or choose(state.plant, line).wanted is None:
        return [*cancel(state, line, now), *answer(state, command, "done")]
    return begin(state, line, [command], now)


def _overridden(state: State, operator: Override, command: Command) -> list[Action]:
    return answer(state, command, "noop", "overridden", f"an operator chose {operator.reference}")


def _join(state: State, line: Line, others: list[Command], command: Command) -> list[Action]:
    """Answer a repeated command together with the pending one; beyond the limit answer it at once."""
    if not command_replay.join(others, command):
        return answer(state, command, "noop", None, f"{line.id}: the same is under way")
    return answer(state, command, "accepted")


def _refuse_retained(state: State, route: Route, message: Received) -> list[Action]:
    """Refuse a retained command, because the broker would repeat it at each connect."""
    try:
        read = document(message.payload)
    except ValueRefusedError as error:
        read = Document(None, error.command_id)
    if read is None:
        return []
    line_id = route.name if route.kind != "cmd" else None
    command = Command(message.topic, read.command_id, _bounded(message.reply), line_id)
    repeated = command_replay.again(state, command)
    # A known id gets its ack again, because the first, live delivery may have been executed.
    return repeated or answer(state, command, "rejected", "retained", "commands are not to be retained; clear it")


def _bounded(reply: Reply | None) -> Reply | None:
    if reply is None or len(reply.topic) > _LONGEST_REPLY:
        return None
    return reply if len(reply.correlation or b"") <= _LONGEST_CORRELATION_BYTES else None


def _is_repetition(actions: list[Action]) -> bool:
    """Return True where nothing changed and no id was given: such a command costs no disk write."""
    return all(
        isinstance(one, Answer) and (one.ack.result, one.ack.reason, one.ack.id) == ("noop", None, None)
        for one in actions
    )


_OF_A_LINE: Final[dict[str, _OfLine]] = {
    "product/set": set_product,
    "model/set": set_model,
    "prepare": preload.prepare,
}
