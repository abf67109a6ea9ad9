"""The schedule in force: set by message, followed by the wall clock, and applied to lines."""

import json
from typing import Final

from agent.control import weekly_schedule
from agent.control.actions import Action
from agent.control.decoding.values import ValueRefusedError
from agent.control.lines import changeover, preload
from agent.control.lines.changeover import answer
from agent.control.lines.policy import Choice, choose
from agent.control.plant import Plant
from agent.control.state import Command, Line, Now, State
from agent.control.weekly_schedule import NO_TIMETABLE, Timetable
from agent.messages.payloads import NextChange
from agent.messages.texts.utc import utc_text
from agent.settings import ScheduleRule

FILES_OWN: Final = "config"
_CLOCK_PATIENCE_S: Final = 60.0
_JUMP_S: Final = 2.0
_VALID_S: Final = 3600.0
_CHANGES_LOOKED_AT: Final = 64


def set_schedule(state: State, content: object, command: Command, now: Now) -> list[Action]:
    """Replace the schedule by a list of rules; the text "config" restores the configured one."""
    scheduling = state.scheduling
    try:
        rules = state.plant.schedule if content == FILES_OWN else _read(state.plant, content)
    except ValueRefusedError as error:
        return answer(state, command, "rejected", error.reason, str(error))
    text = None if content == FILES_OWN else json.dumps(content, separators=(",", ":"))
    if text == scheduling.text:
        return answer(state, command, "noop")
    scheduling.rules, scheduling.text = rules, text
    scheduling.valid_until_s = 0.0
    tick(state, now)
    return answer(state, command, "done")


def _read(plant: Plant, content: object) -> tuple[ScheduleRule, ...]:
    rules = weekly_schedule.parse(content, list(plant.lines))
    for number, rule in enumerate(rules, 1):
        if rule.model is not None and plant.find(rule.model, plant.lines[rule.line].variant) is None:
            raise ValueRefusedError("unknown_model", f"rule {number}: model: the catalog has no {rule.model}")
    return rules


def restore(state: State, text: str | None) -> None:
    """Restore a schedule that was set before a restart; one that fits the lines no more is dropped."""
    if text is None:
        return
    try:
        state.scheduling.rules = weekly_schedule.parse(json.loads(text), list(state.lines))
    except ValueRefusedError:
        return
    state.scheduling.text = text


def reloaded(state: State) -> None:
    """Apply the reloaded configuration's rules, unless a message set others."""
    if state.scheduling.text is None:
        state.scheduling.rules = state.plant.schedule
    state.scheduling.valid_until_s = 0.0


def tick(state: State, now: Now) -> None:
    """Update which schedule rules hold for each line, from the wall clock."""
    scheduling = state.scheduling
    if not _is_running(state, now):
        return
    offset_s = now.unix_s - now.monotonic_s
    if abs(offset_s - scheduling.offset_s) > _JUMP_S or now.unix_s >= scheduling.valid_until_s:
        scheduling.offset_s, scheduling.valid_until_s = offset_s, now.unix_s + _VALID_S
        scheduling.timetables = {
            line: weekly_schedule.lay_out(scheduling.rules, line, now.unix_s) for line in state.lines
        }
    for line in state.lines.values():
        line.schedule.window = scheduling.timetables[line.id].at(now.unix_s)


def follow(state: State, line: Line, now: Now) -> list[Action]:
    """Preload for the schedule's next change, and begin a changeover where rules ask for another model."""
    choice = choose(state.plant, line)
    return _look_ahead(state, line, choice, now) + changeover.follow(state, line, choice, now)


def _is_running(state: State, now: Now) -> bool:
    """Return True once the wall clock is synchronised, or after a minute in any case."""
    scheduling = state.scheduling
    if scheduling.waits_until_s is None:
        scheduling.waits_until_s = now.monotonic_s + _CLOCK_PATIENCE_S
    if now.clock_synced or now.monotonic_s >= scheduling.waits_until_s:
        scheduling.is_running = True
    return scheduling.is_running


def _look_ahead(state: State, line: Line, choice: Choice, now: Now) -> list[Action]:
    schedule, selection = line.schedule, line.selection
    timetable = state.scheduling.timetables.get(line.id, NO_TIMETABLE)
    chosen = (selection.product, selection.operator, selection.rollback)
    basis = (timetable, choice, schedule.window, line.limits.caps, *chosen)
    if basis != schedule.next_basis:
        schedule.next_basis = basis
        schedule.next_change = _next_change(state.plant, line, timetable, choice, now.unix_s)
    if schedule.next_change is None:
        schedule.next = None
        return []
    at_unix_s, model = schedule.next_change
    schedule.next = NextChange(utc_text(at_unix_s), model)
    return preload.look_ahead(state, line, now, at_unix_s)


def _next_change(
    plant: Plant, line: Line, timetable: Timetable, choice: Choice, unix_s: float
) -> tuple[float, str] | None:
    """Return the time and the model of the schedule's next change."""
    for count, (at_unix_s, window) in enumerate(timetable.after(unix_s)):
        wanted = choose(plant, line, window).wanted
        if wanted is not None and wanted != choice.wanted:
            return at_unix_s, wanted.reference
        if count >= _CHANGES_LOOKED_AT:
            break
    return None
