"""Commands from the broker: decoded and dispatched, or refused with a reason and without effect."""

from collections.abc import Callable
from typing import Any, Final

from agent.control.actions import Action, Answer, RequeryRetained, SaveSnapshot
from agent.control.decoding.values import Document, Value, ValueRefusedError, decode, document
from agent.control.inputs import bandwidth, duplicate_device, operator_commands, schedule, selection
from agent.control.inputs.routes import RETAINABLE, Route, routes
from agent.control.lines import command_replay, preload
from agent.control.lines.changeover import answer
from agent.control.state import Command, Line, Now, State
from agent.messages.events import Received, Reply

_PROBE_INTERVAL_S: Final = 1.0
_LONGEST_REPLY: Final = 512
_LONGEST_CORRELATION_BYTES: Final = 1024
_KNOWN_TOPICS: Final = 1024
"""Retained messages of further foreign lines are ignored, so that their topics cannot fill memory."""
_LONGEST_FOREIGN_TOPIC: Final = 512
"""Retained messages of longer topics are ignored, because no line here could have them."""

_OfLine = Callable[[State, Line, Value, Command, Now], list[Action]]


def received(state: State, message: Received, now: Now) -> list[Action]:
    """Handle one message. Whatever it contains, the result is a list of actions, never an exception."""
    found = routes(state.plant, message.topic)
    if not found:
        return duplicate_device.heard(state, message, now)
    if message.retained and found[0].kind not in RETAINABLE:
        return _refuse_retained(state, found[0], message)
    if not _is_command(state, message, found):
        return []
    return [action for route in found for action in _take(state, route, message, now)]


def _take(state: State, route: Route, message: Received, now: Now) -> list[Action]:
    line_id = route.name if route.kind != "cmd" else None
    reply = _bounded(message.reply)
    try:
        if route.kind in {"schedule/set", "cmd"}:
            value: Value | Document | None = document(message.payload)
        else:
            value = decode(message.payload, route.read)
    except ValueRefusedError as error:
        command = Command(message.topic, error.command_id, reply, line_id)
        return command_replay.again(state, command) or answer(state, command, "rejected", error.reason, str(error))
    if value is None:
        return []
    command = Command(message.topic, value.command_id, reply, line_id)
    repeated = command_replay.again(state, command)
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
    match route.kind:
        case "schedule/set":
            return schedule.set_schedule(state, value.content, command, now)
        case "bandwidth/set":
            return bandwidth.set_bandwidth(state, value.text, command)
        case "cmd":
            return operator_commands.run(state, route.name, value.content, command, now)
    line = state.lines.get(route.name)
    if line is None:
        return answer(state, command, "rejected", "unknown_line", f"no line {route.name[:64]!r} on this device")
    return _OF_A_LINE[route.kind](state, line, value, command, now)


def link_up(state: State, now: Now) -> list[Action]:
    """Forget the retained messages seen so far, because the first of each topic may have changed.

    Final acks that were recorded before a restart as unsent are sent now.
    """
    state.probed.clear()
    state.probe_due.clear()
    acks, state.acks_to_resend = state.acks_to_resend, []
    return [*duplicate_device.link_up(state, now), *(Answer(ack, reply) for ack, reply in acks)]


def probes(state: State, now: Now) -> list[Action]:
    """Request the retained messages of topics with live commands, at most once a second (decision 0005)."""
    if not state.probe_due or now.monotonic_s < state.probe_due_s:
        return []
    state.probe_due_s = now.monotonic_s + _PROBE_INTERVAL_S
    due, state.probe_due = sorted(state.probe_due), set()
    return [RequeryRetained(filter_) for filter_ in due]


def _is_command(state: State, message: Received, found: list[Route]) -> bool:
    """Return True for a command, False for a retained message that is already known."""
    is_ours = not found[0].name or any(route.name in state.lines for route in found)
    if not message.retained:
        if is_ours and found[0].kind in RETAINABLE:
            state.probed.add(message.topic)
            state.probe_due.add(found[0].filter_)
            _cleared(state, message)
        return True
    is_first = message.topic not in state.probed
    if not is_ours:
        is_first = is_first and len(state.probed) < _KNOWN_TOPICS and len(message.topic) <= _LONGEST_FOREIGN_TOPIC
        state.probed.update([message.topic] if is_first else [])
        return is_first
    state.probed.add(message.topic)
    is_news = state.retained.get(message.topic) != message.payload
    if is_news:
        state.retained[message.topic], state.unsaved = message.payload, True
    return is_first and is_news


def _cleared(state: State, message: Received) -> None:
    """Forget the retained payload when an empty message came; a probe shows it if it still exists."""
    if not message.payload and state.retained.pop(message.topic, None) is not None:
        state.unsaved = True


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
    "product/set": selection.set_product,
    "model/set": selection.set_model,
    "prepare": preload.prepare,
}
