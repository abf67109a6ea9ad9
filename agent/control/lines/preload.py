"""Preloading of models that a PLC announced or the schedule will need."""

from dataclasses import dataclass
from typing import Final

from agent.control.actions import Action, PrepareModel
from agent.control.decoding.values import Value
from agent.control.lines.changeover import answer, answer_all
from agent.control.lines.command_replay import join
from agent.control.lines.policy import would_run
from agent.control.state import Command, Line, Now, Preparation, State, Waiting
from agent.messages.children import Prepared, PrepareFailed
from agent.messages.errors import Reason
from agent.messages.payloads import AckResult
from agent.messages.references import ModelReference, ModelVersion

_AT_ONCE: Final = 8
"""Models preloaded or held for one line; one more evicts the oldest."""
_WORKERS_A_PREPARATION_MAY_LOSE: Final = 1
ARTIFACT_S: Final = 600.0
"""Longest wait for the artifact of a model that nobody waits for."""
_MARGIN_S: Final = 60.0
"""Time for which a preload is held beyond the scheduled moment, for clock corrections and dwell times."""


@dataclass(frozen=True)
class _Wish:
    text: str
    model: ModelVersion
    hold_s: float
    commands: tuple[Command, ...] = ()


def prepare(state: State, line: Line, value: Value, command: Command, now: Now) -> list[Action]:
    """Preload the model of a product or reference, and keep it in memory for the line's `prepare_s` seconds."""
    reference = line.rules.products.get(value.text) or ModelReference.parse(value.text)
    model = would_run(state.plant, line, reference) if reference is not None else None
    if model is None:
        is_model = value.text in line.rules.products or ":" in value.text or "@" in value.text
        reason: Reason = "unknown_model" if is_model else "unknown_product"
        return answer(state, command, "rejected", reason, f"no product and no model {value.text!r} for {line.id}")
    return _announce(state, line, _Wish(value.text, model, line.rules.prepare_s, (command,)), now)


def look_ahead(state: State, line: Line, now: Now, at_unix_s: float) -> list[Action]:
    """Preload the model of the schedule's next change, once for each change."""
    ahead = line.schedule.next
    left_s = at_unix_s - now.unix_s
    if left_s > line.rules.prepare_s:
        line.preloads.announced = None  # because the clock may have been set back after the announcement
        return []
    if ahead is None or ahead == line.preloads.announced or not state.group_of(line).is_up:
        return []
    line.preloads.announced = ahead
    reference = ModelReference.parse(ahead.model)
    model = state.plant.find(reference, line.rules.variant) if reference is not None else None
    return _announce(state, line, _Wish(ahead.model, model, left_s + _MARGIN_S), now) if model is not None else []


def ended(state: State, message: Prepared | PrepareFailed) -> list[Action]:
    """Answer the commands that wait for a preload; a failed one is retried when the model is needed."""
    line = state.lines[message.line]
    done = next((one for one in line.preloads.preparations if one.number == message.number), None)
    if done is None:
        return []
    if isinstance(message, Prepared):
        return _end(state, done, "done")
    line.preloads.preparations.remove(done)
    return _end(state, done, "failed", message.reason, message.detail)


def tick(state: State, line: Line, now: Now) -> list[Action]:
    """Forget preloads that were held long enough, and fail those whose load timed out."""
    actions: list[Action] = []
    late = [one for one in line.preloads.preparations if one.loading and now.monotonic_s >= one.deadline_s]
    for one in late:
        timeout_s = line.rules.changeover_timeout_s
        actions += _end(state, one, "failed", "timeout", f"{one.model.reference} was not loaded within {timeout_s:g} s")
    held = [one for one in line.preloads.preparations if one.loading or now.monotonic_s < one.until_s]
    line.preloads.preparations = [one for one in held if one not in late]
    return actions


def worker_lost(state: State, line: Line, _now: Now) -> list[Action]:
    """Give up a preload whose load has killed a second worker."""
    actions: list[Action] = []
    for one in list(line.preloads.preparations):
        one.workers_lost += one.loading
        if one.workers_lost > _WORKERS_A_PREPARATION_MAY_LOSE:
            line.preloads.preparations.remove(one)
            detail = f"the worker died twice while {one.model.reference} was loading"
            actions += _end(state, one, "failed", "worker_lost", detail)
    return actions


def worker_up(state: State, line: Line, now: Now) -> list[Action]:
    """Request all announced preloads from the new worker, also those from before a restart."""
    waiting, line.preloads.to_prepare = line.preloads.to_prepare, []
    actions: list[Action] = []
    for one in line.preloads.preparations:
        one.deadline_s = now.monotonic_s + line.rules.changeover_timeout_s
        actions.append(PrepareModel(line.id, one.number, one.model, max(one.until_s - now.monotonic_s, 1.0)))
        one.loading = True
    for kept in waiting:
        first, *others = kept.commands
        actions += prepare(state, line, Value(kept.text), first, now)
        for command in others:
            actions += prepare(state, line, Value(kept.text), command, now)
    return actions


def used(state: State, line: Line) -> list[Action]:
    """Answer the preload of a model that now serves, and drop its hold."""
    actions: list[Action] = []
    for one in [one for one in line.preloads.preparations if one.model.reference == line.serving.model]:
        line.preloads.preparations.remove(one)
        actions += _end(state, one, "done")
    return actions


def pending(line: Line) -> tuple[Waiting, ...]:
    """Return the commands to resume after a restart."""
    loading = (Waiting(one.text, list(one.commands)) for one in line.preloads.preparations if one.commands)
    return (*line.preloads.to_prepare, *loading)


def next_number(state: State) -> int:
    """Return the number of a new preload."""
    state.preparations += 1
    return state.preparations


def _announce(state: State, line: Line, wish: _Wish, now: Now) -> list[Action]:
    known = next((one for one in line.preloads.preparations if one.model == wish.model), None)
    if known is not None:
        return _again(state, line, known, wish, now)
    actions: list[Action] = []
    if len(line.preloads.preparations) >= _AT_ONCE:
        actions += _end(state, line.preloads.preparations.pop(0), "failed", "superseded", "newer announcements came")
    one = Preparation(
        text=wish.text,
        model=wish.model,
        number=next_number(state),
        until_s=now.monotonic_s + wish.hold_s,
        deadline_s=now.monotonic_s + line.rules.changeover_timeout_s,
        commands=list(wish.commands),
    )
    line.preloads.preparations.append(one)
    for command in wish.commands:
        actions += answer(state, command, "accepted")
    return actions + ([PrepareModel(line.id, one.number, one.model, wish.hold_s)] if state.group_of(line).is_up else [])


def _again(state: State, line: Line, one: Preparation, wish: _Wish, now: Now) -> list[Action]:
    actions: list[Action] = []
    until_s = now.monotonic_s + wish.hold_s
    is_longer = until_s > one.until_s
    one.until_s = max(one.until_s, until_s)
    for command in wish.commands:
        is_waiting = one.loading and join(one.commands, command)
        actions += answer(state, command, "accepted" if is_waiting else "done")
    if is_longer and not one.loading and state.group_of(line).is_up:
        actions.append(PrepareModel(line.id, one.number, one.model, wish.hold_s))
    return actions


def _end(
    state: State, one: Preparation, result: AckResult, reason: Reason | None = None, detail: str | None = None
) -> list[Action]:
    one.loading = False
    commands, one.commands = one.commands, []
    return answer_all(state, commands, result, reason, detail)
