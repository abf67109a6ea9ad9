"""The workers of the groups: started, lost, hung and well again; a line hears only of its own group's."""

from typing import Final

from agent.control.actions import Action
from agent.control.events import WorkerHung, WorkerLost
from agent.control.lines import changeover, likely_models, preload, report, unanswered_frames
from agent.control.state import Now, State
from agent.messages.payloads import Alert

_CALM_S: Final = 10.0
"""A hang that recurs within this time continues the same alert; `ready` follows each hang."""


def up(state: State, group: str, now: Now) -> list[Action]:
    """Give a new worker the assignments and preloads of its lines."""
    worker = state.groups[group]
    worker.is_up, worker.is_hung, worker.calm_s = True, False, None
    actions = _say(state, group, Alert("worker_lost", on=False))
    actions += _say(state, group, Alert("worker_hung", on=False))
    for line in state.lines_of(group):
        actions += changeover.resume(state, line, now)
    for line in state.lines_of(group):
        actions += preload.worker_up(state, line, now)
    return actions


def lost(state: State, event: WorkerLost, now: Now) -> list[Action]:
    """Publish `ready` 0 of the group's lines, which have no model until the next worker is up."""
    worker, lines = state.groups[event.group], state.lines_of(event.group)
    worker.is_up = False
    likely_models.worker_lost(worker.likely, now)
    # `ready` first, because a PLC must know before the changeover is sorted out.
    actions = report.clear_all(lines)
    for line in lines:
        unanswered_frames.worker_lost(state, line)
        actions += changeover.worker_lost(state, line, now)
    for line in lines:
        actions += preload.worker_lost(state, line, now)
    return actions + _say(state, event.group, Alert("worker_lost", on=True, detail=event.detail))


def hung(state: State, event: WorkerHung, now: Now) -> list[Action]:
    """Record that a worker stopped making progress, or resumed."""
    worker = state.groups[event.group]
    worker.is_hung = event.hung
    worker.calm_s = None if event.hung else now.monotonic_s + _CALM_S
    return _say(state, event.group, Alert("worker_hung", on=True)) if event.hung else []


def tick(state: State, now: Now) -> list[Action]:
    """Clear the alerts of workers that have not hung for a while, and send changed lists of likely models."""
    actions: list[Action] = []
    for group, worker in state.groups.items():
        actions += likely_models.follow(state, group, now)
        if worker.calm_s is not None and now.monotonic_s >= worker.calm_s:
            worker.calm_s = None
            actions += _say(state, group, Alert("worker_hung", on=False))
    return actions


def stopped(state: State) -> None:
    """Record that all workers have ended for good."""
    for worker in state.groups.values():
        worker.is_up = False


def _say(state: State, group: str, change: Alert) -> list[Action]:
    """Raise or clear an alert about a group's worker: the device's, or each line's where there are several groups.

    The groups without lines share the device's.
    """
    if len(state.groups) == 1:
        return report.alert(state, change)
    words = f"group {group}" + (f": {change.detail}" if change.detail else "") if change.on else None
    if lines := state.lines_of(group):
        changes = [Alert(change.code, change.on, line=line.id, detail=words) for line in lines]
        return [action for one in changes for action in report.alert(state, one)]
    own = state.groups[group].troubles
    own.pop(change.code, None)
    if words is not None:
        own[change.code] = words
    told = [one.troubles[change.code] for one in state.groups.values() if change.code in one.troubles]
    return report.notice(state, Alert(change.code, on=bool(told), detail="; ".join(told) or None))
