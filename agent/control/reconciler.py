"""Entry point of control: `reconcile(state, event, now) -> actions` applies one event to the state."""

from collections.abc import Callable
from typing import Final

from agent.control.actions import (
    Action,
    Answer,
    AssignLine,
    CompareModels,
    EndComparison,
    PrepareModel,
    PublishState,
    SaveSnapshot,
)
from agent.control.canary import following
from agent.control.canary import steps as canary
from agent.control.events import (
    AckRate,
    CapChanged,
    CatalogRead,
    FramesSeen,
    ModelsLoading,
    Reloaded,
    Stopped,
    Stopping,
    StreamChanged,
    SupplyLost,
    Tick,
    WorkerCrashed,
    WorkerHung,
    WorkerLost,
    WorkerUp,
)
from agent.control.inputs import (
    auto_rollback,
    bandwidth,
    commands,
    duplicate_device,
    operator_commands,
    retained,
    schedule,
)
from agent.control.lines import changeover, preload, report, selection, serving, unanswered_frames, workers
from agent.control.orders import room, steps
from agent.control.state import Line, Now, State
from agent.messages.canary import Compared, ComparisonBegan, ComparisonFailed
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
from agent.messages.short_lived.supply import AliasesFound, Entered, Fetched, FetchFailed, FetchProgress
from agent.messages.topics import of_stream

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
    | ComparisonBegan
    | Compared
    | ComparisonFailed
    | CatalogRead
    | ModelsLoading
    | SupplyLost
    | FetchProgress
    | Fetched
    | AliasesFound
    | FetchFailed
    | Entered
)

_OfOrders = CatalogRead | ModelsLoading | SupplyLost | FetchProgress | Fetched | AliasesFound | FetchFailed | Entered
_Decision = Callable[[State, Line, Now], list[Action]]

_LIVE_INTERVAL_S: Final = 1.0
_SAVE_INTERVAL_S: Final = 1.0
_WORK: Final = (AssignLine, PrepareModel, CompareModels, EndComparison)
_CRASH_CALM_S: Final = 60.0
"""The alert of a crashed thread stays on for this long, because a crash itself is over at once."""


def reconcile(state: State, event: Event, now: Now) -> list[Action]:
    """Apply one event to `state` and return the actions, in order.

    Pure but for `state`: no I/O, no clock of its own, and no exception for anything a broker or a child may send.
    """
    actions = _apply(state, event, now)
    followed = [action for line in state.lines.values() for action in canary.follow(state, line, now)]
    actions = _comparisons_first(actions, followed)
    for line in state.lines.values():
        actions += report.publish_changes(state, line, now)
    return _in_order(state, actions)


def _comparisons_first(actions: list[Action], followed: list[Action]) -> list[Action]:
    """Place the ends of comparisons before the assignments that end them, so that a candidate's frames end first."""
    ends = [one for one in followed if isinstance(one, EndComparison)]
    place = next((number for number, one in enumerate(actions) if isinstance(one, AssignLine)), len(actions))
    return [*actions[:place], *ends, *actions[place:], *(one for one in followed if one not in ends)]


def _in_order(state: State, actions: list[Action]) -> list[Action]:
    """Place one SaveSnapshot after the urgent actions and before the acks (decision 0022)."""
    if not any(isinstance(one, SaveSnapshot) for one in actions):
        return actions
    finals = [one for one in actions if isinstance(one, Answer) and one.ack.result != "accepted"]
    state.unsaved = False
    state.unsent_acks = [(one.ack, one.reply) for one in finals]
    rest = [one for one in actions if not isinstance(one, SaveSnapshot)]
    place = next((number for number, one in enumerate(rest) if isinstance(one, Answer)), len(rest))
    work = [one for one in rest[place:] if isinstance(one, _WORK)]
    later = [one for one in rest[place:] if not isinstance(one, _WORK)]
    return [*rest[:place], *work, SaveSnapshot(), *later]


def _apply(state: State, event: Event, now: Now) -> list[Action]:  # noqa: C901, PLR0911, PLR0912 - one event a line
    match event:
        case Tick():
            return _tick(state, now)
        case Received():
            return commands.received(state, event, now)
        case LinkUp():
            return commands.link_up(state, now)
        case LinkTakenOver():
            return duplicate_device.taken_over(state, now)
        case StreamChanged():
            return report.stream_status(state, event.stream, event.status, event.detail)
        case FramesSeen():
            return unanswered_frames.look(state, event.streams, now)
        case AckRate():
            return bandwidth.measured(state, event)
        case CapChanged():
            return bandwidth.stressed(state, event)
        case Reloaded():
            return operator_commands.reloaded(state, event)
        case Noticed():
            return report.notice(state, Alert(event.code, event.on, detail=event.detail))
        case Breaking():
            return serving.taken_off(state.lines[event.line], now)
        case Preparing():
            return changeover.preparing(state.lines[event.line], event)
        case Swapped():
            room.line_changed_over(state, now)
            return changeover.swapped(state, event, now) + preload.used(state, state.lines[event.line])
        case SwapFailed():
            return changeover.swap_failed(state, event, now)
        case Prepared() | PrepareFailed():
            return preload.ended(state, event) + steps.proved(state, event, now) + canary.prepared(state, event, now)
        case ComparisonBegan() | Compared() | ComparisonFailed():
            return _of_comparisons(state, event, now)
        case CatalogRead() | ModelsLoading() | SupplyLost() | FetchProgress() | Entered():
            return _of_orders(state, event, now)
        case Fetched() | AliasesFound() | FetchFailed():
            return _of_orders(state, event, now)
        case InferenceFailed():
            return auto_rollback.inference_failed(state, event, now)
        case MemoryKept():
            detail = f"{event.bytes >> 20} MiB of {', '.join(event.models)}" if event.bytes else None
            return report.alert(state, Alert("memory_kept", on=event.bytes > 0, detail=detail))
        case WorkerUp():
            return workers.up(state, event.group, now) + steps.worker_up(state, event.group, now)
        case WorkerLost():
            actions = workers.lost(state, event, now) + steps.worker_lost(state, event.group, now)
            return actions + [
                one for line in state.lines_of(event.group) for one in canary.worker_lost(state, line, now)
            ]
        case WorkerHung():
            return workers.hung(state, event, now)
        case WorkerCrashed():
            state.crash_calm_s = now.monotonic_s + _CRASH_CALM_S
            return report.alert(state, Alert("thread_crashed", on=True, detail=event.detail))
        case Stopping():
            state.stopping = True
            return report.clear_all(state.lines.values())
        case Stopped():
            return _stopped(state, now)


def _of_comparisons(state: State, event: ComparisonBegan | Compared | ComparisonFailed, now: Now) -> list[Action]:
    match event:
        case ComparisonBegan():
            return canary.began(state, event, now)
        case Compared():
            return canary.compared(state, event, now)
        case ComparisonFailed():
            return canary.failed(state, event, now)


def _of_orders(state: State, event: _OfOrders, now: Now) -> list[Action]:  # noqa: PLR0911 - one event a line
    match event:
        case CatalogRead():
            return steps.catalog_read(state, event, now) + following.begin_due(state, now)
        case ModelsLoading():
            return steps.loading(state, event, now)
        case SupplyLost():
            return steps.lost(state, event, now)
        case FetchProgress():
            return steps.progress(state, event, now)
        case Fetched():
            return steps.fetched(state, event, now)
        case AliasesFound():
            return following.found(state, event, now)
        case FetchFailed():
            return following.failed(state, event, now) + steps.failed(state, event, now)
        case Entered():
            return steps.entered(state, event)


def _stopped(state: State, now: Now) -> list[Action]:
    state.stopping = True
    workers.stopped(state)
    for line in state.lines.values():
        serving.lost(line, now)
    state.streams = dict.fromkeys(state.streams, "offline")
    return [PublishState(of_stream(stream, "status"), b"offline") for stream in state.streams]


def _tick(state: State, now: Now) -> list[Action]:
    actions = _each(state, changeover.expire, now) + _each(state, changeover.retry_if_nothing_serves, now)
    actions += _each(state, preload.tick, now) + retained.probes(state, now)
    schedule.tick(state, now)
    actions += steps.tick(state, now) + following.tick(state, now)
    actions += duplicate_device.tick(state, now) + bandwidth.tick(state) + _each(state, schedule.follow, now)
    actions += _each(state, auto_rollback.follow, now) + _each(state, report.miss_model, now)
    actions += _each(state, selection.miss_choice, now) + workers.tick(state, now)
    actions += report.miss_cameras(state, now) + report.warn_of_unsafe(state)
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
