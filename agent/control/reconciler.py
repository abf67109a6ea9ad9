"""Entry point of control: `reconcile(state, event, now) -> actions` applies one event to the state."""

from collections.abc import Callable
from typing import Final

from agent.control.actions import Action, Answer, AssignLine, PrepareModel, PublishState, SaveSnapshot
from agent.control.events import (
    AckRate,
    CapChanged,
    FramesSeen,
    Reloaded,
    Stopped,
    Stopping,
    StreamChanged,
    Tick,
    WorkerCrashed,
    WorkerHung,
    WorkerLost,
    WorkerUp,
)
from agent.control.inputs import auto_rollback, bandwidth, commands, duplicate_device, operator_commands, schedule
from agent.control.lines import blind_time, changeover, preload, report, unanswered_frames
from agent.control.state import Cap, Line, Now, State
from agent.messages.children import (
    Breaking,
    InferenceFailed,
    MemoryKept,
    Prepared,
    PrepareFailed,
    Preparing,
    SwapFailed,
    Swapped,
)
from agent.messages.events import LinkTakenOver, LinkUp, Noticed, Received
from agent.messages.payloads import Alert

Event = (
    Tick
    | LinkUp
    | LinkTakenOver
    | Noticed
    | Received
    | AckRate
    | CapChanged
    | Reloaded
    | Stopping
    | Stopped
    | StreamChanged
    | WorkerUp
    | WorkerLost
    | WorkerHung
    | WorkerCrashed
    | FramesSeen
    | Breaking
    | Preparing
    | Swapped
    | SwapFailed
    | Prepared
    | PrepareFailed
    | InferenceFailed
    | MemoryKept
)

_Decision = Callable[[State, Line, Now], list[Action]]

_LIVE_INTERVAL_S: Final = 1.0
_SAVE_INTERVAL_S: Final = 1.0
_CALM_S: Final = 10.0
"""A hang that recurs within this time continues the same alert; `ready` follows each hang."""
_CRASH_CALM_S: Final = 60.0
"""The alert of a crashed thread stays on for this long, because a crash itself is over at once."""


def reconcile(state: State, event: Event, now: Now) -> list[Action]:
    """Apply one event to `state` and return the actions, in order.

    Pure but for `state`: no I/O, no clock of its own, and no exception for anything a broker or a child may send.
    """
    actions = _apply(state, event, now)
    for line in state.lines.values():
        actions += report.publish_changes(state, line, now)
    return _in_order(state, actions)


def _in_order(state: State, actions: list[Action]) -> list[Action]:
    """Place one SaveSnapshot after the urgent actions and before the acks (decision 0022)."""
    if not any(isinstance(one, SaveSnapshot) for one in actions):
        return actions
    finals = [one for one in actions if isinstance(one, Answer) and one.ack.result != "accepted"]
    state.unsaved = False
    state.unsent_acks = [(one.ack, one.reply) for one in finals]
    rest = [one for one in actions if not isinstance(one, SaveSnapshot)]
    place = next((number for number, one in enumerate(rest) if isinstance(one, Answer)), len(rest))
    work = [one for one in rest[place:] if isinstance(one, (AssignLine, PrepareModel))]
    later = [one for one in rest[place:] if not isinstance(one, (AssignLine, PrepareModel))]
    return [*rest[:place], *work, SaveSnapshot(), *later]


def _apply(state: State, event: Event, now: Now) -> list[Action]:
    match event:
        case Tick():
            return _tick(state, now)
        case LinkUp() | LinkTakenOver() | Received():
            return _broker(state, event, now)
        case StreamChanged():
            return report.stream_status(state, event.stream, event.status, event.detail)
        case AckRate() | CapChanged() | Reloaded() | Noticed():
            return _world(state, event)
        case FramesSeen() | WorkerUp() | WorkerLost() | WorkerHung() | WorkerCrashed() | Stopping() | Stopped():
            return _worker(state, event, now)
        case _:
            return _models(state, event, now)


def _broker(state: State, event: LinkUp | LinkTakenOver | Received, now: Now) -> list[Action]:
    match event:
        case Received():
            return commands.received(state, event, now)
        case LinkUp():
            return commands.link_up(state, now)
        case LinkTakenOver():
            return duplicate_device.taken_over(state, now)


def _world(state: State, event: AckRate | CapChanged | Reloaded | Noticed) -> list[Action]:
    match event:
        case Noticed():
            return report.notice(state, Alert(event.code, event.on, detail=event.detail))
        case AckRate():
            return bandwidth.measured(state, event)
        case Reloaded():
            return operator_commands.reloaded(state, event)
        case CapChanged(rule, None):
            state.stress.pop(rule, None)
        case CapChanged(rule, str(variant)):
            state.stress[rule] = Cap(rule, variant, value=event.value)
    return []


def _models(  # noqa: PLR0911 - one event a line
    state: State,
    event: Breaking | Preparing | Swapped | SwapFailed | Prepared | PrepareFailed | InferenceFailed | MemoryKept,
    now: Now,
) -> list[Action]:
    match event:
        case Breaking():
            state.lines[event.line].blind = True
            blind_time.begin(state.lines[event.line], now)
            return []
        case Preparing():
            changeover.preparing(state.lines[event.line], event)
            return []
        case Swapped():
            return changeover.swapped(state, event, now) + preload.used(state, state.lines[event.line])
        case SwapFailed():
            return changeover.swap_failed(state, event, now)
        case Prepared() | PrepareFailed():
            return preload.ended(state, event)
        case InferenceFailed():
            return auto_rollback.inference_failed(state, event, now)
        case MemoryKept():
            detail = f"{event.bytes >> 20} MiB of {', '.join(event.models)}" if event.bytes else None
            return report.alert(state, Alert("memory_kept", on=event.bytes > 0, detail=detail))


def _worker(
    state: State, event: FramesSeen | WorkerUp | WorkerLost | WorkerHung | WorkerCrashed | Stopping | Stopped, now: Now
) -> list[Action]:
    match event:
        case Stopping() | Stopped():
            return _stop(state, event)
        case FramesSeen():
            return unanswered_frames.look(state, event.streams, now)
        case WorkerCrashed():
            state.crash_calm_s = now.monotonic_s + _CRASH_CALM_S
            return report.alert(state, Alert("thread_crashed", on=True, detail=event.detail))
        case WorkerHung():
            state.worker_hung = event.hung
            state.worker_calm_s = None if event.hung else now.monotonic_s + _CALM_S
            return report.alert(state, Alert("worker_hung", on=True)) if event.hung else []
        case WorkerUp():
            state.worker_up, state.worker_hung, state.worker_calm_s = True, False, None
            actions = report.alert(state, Alert("worker_lost", on=False))
            actions += report.alert(state, Alert("worker_hung", on=False))
            return actions + _each(state, changeover.resume, now) + _each(state, preload.worker_up, now)
        case WorkerLost():
            state.worker_up = False
            unanswered_frames.worker_lost(state)
            # `ready` first, because a PLC must know before the changeover is sorted out.
            actions = [action for line in state.lines.values() for action in report.clear_ready(line)]
            actions += _each(state, changeover.worker_lost, now) + _each(state, preload.worker_lost, now)
            actions += report.alert(state, Alert("memory_kept", on=False))
            return actions + report.alert(state, Alert("worker_lost", on=True, detail=event.detail))


def _stop(state: State, event: Stopping | Stopped) -> list[Action]:
    state.stopping = True
    if isinstance(event, Stopping):
        return [action for line in state.lines.values() for action in report.clear_ready(line)]
    state.worker_up = False
    for line in state.lines.values():
        line.active = None
    state.streams = dict.fromkeys(state.streams, "offline")
    return [PublishState(f"stream/{stream}/status", b"offline") for stream in state.streams]


def _tick(state: State, now: Now) -> list[Action]:
    actions = _each(state, changeover.expire, now) + _each(state, changeover.retry_if_nothing_serves, now)
    actions += _each(state, preload.tick, now) + commands.probes(state, now)
    schedule.tick(state, now)
    actions += duplicate_device.tick(state, now) + bandwidth.tick(state) + _each(state, schedule.follow, now)
    actions += _each(state, auto_rollback.follow, now) + _each(state, report.miss_model, now)
    actions += _each(state, report.miss_choice, now)
    actions += report.miss_cameras(state, now) + report.warn_of_unsafe(state)
    if state.worker_calm_s is not None and now.monotonic_s >= state.worker_calm_s:
        state.worker_calm_s = None
        actions += report.alert(state, Alert("worker_hung", on=False))
    if state.crash_calm_s is not None and now.monotonic_s >= state.crash_calm_s:
        state.crash_calm_s = None
        actions += report.alert(state, Alert("thread_crashed", on=False))
    if state.unsaved and now.monotonic_s >= state.save_due_s:
        state.save_due_s = now.monotonic_s + _SAVE_INTERVAL_S
        actions.append(SaveSnapshot())
    if now.monotonic_s >= state.live_due_s:
        state.live_due_s = max(state.live_due_s + _LIVE_INTERVAL_S, now.monotonic_s + _LIVE_INTERVAL_S / 2)
        actions += report.heartbeat(state)
    return actions


def _each(state: State, decide: _Decision, now: Now) -> list[Action]:
    return [action for line in state.lines.values() for action in decide(state, line, now)]
