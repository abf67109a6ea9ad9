"""Operator commands of `cmd/{verb}`: rollback, reload, cancel, log and acknowledge."""

from typing import Any, Final

from agent.control.actions import Action, Reload, SetLogLevel
from agent.control.events import Reloaded
from agent.control.inputs import bandwidth, schedule
from agent.control.inputs.known_names import known
from agent.control.lines import selection
from agent.control.lines.changeover import answer, answer_all, begin
from agent.control.lines.policy import choose
from agent.control.lines.report import acknowledge, alert, clear_ready_unless_true
from agent.control.orders import receive
from agent.control.state import Command, Line, Now, Override, State
from agent.messages.payloads import Alert
from agent.settings import LOG_LEVELS

VERBS: Final = ("rollback", "reload", "cancel", "log", "acknowledge")
_NOBODY: Final = "mqtt"
"""Name of the person who acknowledged an alert, for a command that came from the broker."""
LOG_S: Final = 600.0
"""Seconds for which `log` sets the level where the command names no time."""
_LONGEST_LOG_S: Final = 86_400.0
_WAITING_RELOADS: Final = 16


def run(state: State, verb: str, content: object, command: Command, now: Now) -> list[Action]:
    """Execute one operator command."""
    if verb not in VERBS:
        return _refuse(state, command, f"the verbs are {', '.join(VERBS)}")
    if not isinstance(content, dict):
        return _refuse(state, command, 'expected a JSON object such as {"id": "a1", "line": "line-1"}')
    if verb != "rollback":
        return _of_device(state, verb, content, command, now)
    name = content.get("line")
    line = state.lines.get(name) if isinstance(name, str) else _only_line(state, name)
    if line is None:
        what = "say which line" if name is None else f"no line {str(name)[:64]!r} on this device"
        detail = f"{what}; {known('lines', state.lines)}"
        return answer(state, command, "rejected", "unknown_line", detail)
    return _roll_back(state, line, command, now)


def _of_device(state: State, verb: str, content: dict[str, Any], command: Command, now: Now) -> list[Action]:
    if verb == "reload":
        return _reload(state, command)
    if verb == "acknowledge":
        return _acknowledge(state, content, command, now)
    return receive.cancel(state, content, command, now) if verb == "cancel" else _log(state, content, command)


def reloaded(state: State, event: Reloaded) -> list[Action]:
    """Apply a configuration that was read again, or report its mistake."""
    waiting, state.reloading = state.reloading, []
    actions: list[Action] = []
    if event.plant is None:
        return answer_all(state, waiting, "failed", "not_understood", event.detail[:500])
    state.plant = event.plant
    state.orders.index_at_s = 0.0
    schedule.reloaded(state)
    for line in state.lines.values():
        line.rules = event.plant.lines[line.id]
        bandwidth.reloaded(line)
        actions += clear_ready_unless_true(state, line)
        actions += _recheck_product(state, line)
    return actions + answer_all(state, waiting, "done", None, event.detail or None)


def _recheck_product(state: State, line: Line) -> list[Action]:
    """Update the alert for an unknown product after a reload."""
    product = line.selection.product
    is_unknown = product is not None and line.own is None
    products = known("products", line.rules.products)
    detail = f"no product {product!r} in the configuration of {line.id} any more; {products}"
    return alert(state, Alert("unknown_product", is_unknown, line=line.id, detail=detail if is_unknown else None))


def _reload(state: State, command: Command) -> list[Action]:
    if len(state.reloading) >= _WAITING_RELOADS:
        return answer(state, command, "noop", None, "a reload is under way")
    state.reloading.append(command)
    return [*answer(state, command, "accepted"), *([Reload()] if len(state.reloading) == 1 else [])]


def _log(state: State, content: dict[str, Any], command: Command) -> list[Action]:
    """Change the log level for a bounded time; nothing of it survives a restart."""
    level, for_s = content.get("level"), content.get("for_s", LOG_S)
    found = next((one for one in LOG_LEVELS if one == level), None)
    is_time = isinstance(for_s, (int, float)) and not isinstance(for_s, bool) and 0 < for_s <= _LONGEST_LOG_S
    if found is None or not is_time:
        expected = f"`level` of {', '.join(LOG_LEVELS)}, and `for_s` of at most {_LONGEST_LOG_S:.0f} seconds"
        return _refuse(state, command, f'expected {expected}, such as {{"level": "debug", "for_s": 600}}')
    return [SetLogLevel(found, for_s), *answer(state, command, "done", None, f"{found} for {for_s:g} s")]


def _acknowledge(state: State, content: dict[str, Any], command: Command, now: Now) -> list[Action]:
    """Mark an active alert as seen, by its code and, where it has one, its line or stream."""
    key = (content.get("code"), content.get("line"), content.get("stream"))
    found = next((one for one in state.alerts if one == key), None)
    if found is None:
        return _refuse(state, command, f"no such alert is on; {known('alerts', [code for code, _, _ in state.alerts])}")
    told = acknowledge(state, found, command.user or _NOBODY, now)
    return [*told, *answer(state, command, "done" if told else "noop")]


def _roll_back(state: State, line: Line, command: Command, now: Now) -> list[Action]:
    """Begin a changeover to the line's previous reference of the same model, or reject the command without one."""
    present = choose(state.plant, line).asked
    reference = selection.previous(state, line, present)
    if reference is None:
        detail = f"{line.id} has served no other reference of {present.name if present else 'its model'}"
        return answer(state, command, "rejected", "nothing_to_roll_back", detail)
    selection.forget_after(line, reference)
    selection.roll_back(line, Override(reference, command.cause("rollback", line.id)))
    return begin(state, line, [command], now)


def _only_line(state: State, name: Any) -> Line | None:  # noqa: ANN401 - JSON is any of its types
    """Return the only line of the device where the command names none."""
    return next(iter(state.lines.values())) if name is None and len(state.lines) == 1 else None


def _refuse(state: State, command: Command, detail: str) -> list[Action]:
    return answer(state, command, "rejected", "not_understood", detail)
