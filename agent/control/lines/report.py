"""Reports of lines, streams and alerts, derived from the state and published on change."""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec.structs import replace

from agent.control.actions import Action, PublishEvent, PublishLive, PublishState
from agent.control.lines.policy import missing, ready_models, serves
from agent.control.lines.serving import note_cap
from agent.control.stages import Stage
from agent.control.state import NOTHING, Line, Now, State
from agent.messages.payloads import Alert, LineState, Phase, StreamStatus
from agent.messages.topics import OfLine, of_line, of_stream

CAMERA_PATIENCE_S: Final = 10.0
"""Time for a camera to open after the start, before its absence raises an alert."""


def clear_ready(line: Line) -> list[Action]:
    """Publish `ready` 0 before any other action; nothing where it is 0 already."""
    return _say_ready(line, NOTHING)


def clear_all(lines: Iterable[Line]) -> list[Action]:
    """Publish `ready` 0 of each line."""
    return [action for line in lines for action in clear_ready(line)]


def serves_product(state: State, line: Line) -> bool:
    """Return True where every model that may serve the line now fits its product."""
    allowed = ready_models(state.plant, line)
    if not allowed or line.serving.is_taken_off:
        return False
    # Unconfirmed models count, too, because the worker may switch to one at any moment.
    possible = [line.serving.model, *(model.reference for model in line.assignment.unconfirmed)]
    if line.comparison is not None and line.comparison.answers:
        possible.append(line.comparison.candidate)
    return all(serves(model, allowed) for model in possible)


def clear_ready_unless_true(state: State, line: Line) -> list[Action]:
    """Publish `ready` 0 where the line is no longer ready; other values wait until all is decided."""
    return clear_ready(line) if _ready(state, line) == NOTHING else []


def publish_changes(state: State, line: Line, now: Now) -> list[Action]:
    """Publish a line's changes: `ready` first, then phase, model and state."""
    note_cap(state.plant, line)
    actions = _say_ready(line, _ready(state, line))
    product, target, cause = line.selection.product, line.assignment.target, line.assignment.cause
    model, phase, published = line.serving.model or "none", _phase(state, line), line.published
    basis = (product, model, phase, target, cause)
    if published.basis != basis:
        published.basis, published.phase, published.since = basis, phase, now.text()
    report = LineState(
        line=line.id,
        product=product,
        model=line.serving.model,
        phase=phase,
        wanted=target.reference if target else None,
        cause=cause,
        since=published.since,
        boot=state.plant.boot,
        next=line.schedule.next if line.schedule.next is not None else msgspec.UNSET,
    )
    actions += _say(line, "phase", phase.encode())
    actions += _say(line, "model/state", model.encode())
    return actions + _say(line, "state", msgspec.json.encode(report))


def heartbeat(state: State) -> list[Action]:
    """Publish `live` for every line that makes progress."""
    return [PublishLive(line.id, line.published.ready) for line in state.lines.values() if moves(state, line)]


def moves(state: State, line: Line) -> bool:
    """Return True where the worker and each stream of the line made progress in time."""
    group = state.group_of(line)
    if not group.is_up or group.is_hung or not _streams_online(state, line):
        return False
    answering = [state.answering[stream] for stream in state.streams_of(line.id) if stream in state.answering]
    return all(one.unanswered_since_s is None for one in answering)


def stream_status(state: State, stream: str, status: StreamStatus, detail: str) -> list[Action]:
    """Record and publish a stream's status and its alert."""
    state.streams[stream] = status
    actions: list[Action] = [PublishState(of_stream(stream, "status"), status.encode())]
    is_bad = status != "online"
    why = f"{status}: {detail}" if detail else status
    change = Alert("camera", is_bad, stream=stream, detail=why if is_bad else None)
    if is_bad and detail:
        state.alerts.pop((change.code, change.line, change.stream), None)
    return actions + alert(state, change)


def miss_cameras(state: State, now: Now) -> list[Action]:
    """Raise the alert `camera` for streams that are still offline 10 s after the start."""
    if state.cameras_due_s is None:
        state.cameras_due_s = now.monotonic_s + CAMERA_PATIENCE_S
    if now.monotonic_s < state.cameras_due_s or state.stopping:
        return []
    absent = [stream for stream, status in state.streams.items() if status == "offline"]
    return [
        action
        for stream in absent
        for action in alert(state, Alert("camera", on=True, stream=stream, detail="offline since the start"))
    ]


def miss_model(state: State, line: Line, _now: Now) -> list[Action]:
    """Update the alert for a model that the catalog lacks."""
    reference = missing(state.plant, line)
    detail = f"the catalog lacks {reference}" if reference is not None else None
    return alert(state, Alert("unknown_model", on=reference is not None, line=line.id, detail=detail))


def warn_of_unsafe(state: State) -> list[Action]:
    """Update the alert for models whose files may run code in the worker."""
    unsafe = state.plant.unsafe
    detail = f"opened without walls: {', '.join(unsafe)}" if unsafe else None
    return alert(state, Alert("unsafe_model", on=bool(unsafe), detail=detail))


def alert(state: State, change: Alert) -> list[Action]:
    """Turn an alert on or off; publish one message for each change, and the list of active alerts."""
    key = (change.code, change.line, change.stream)
    if change.on == (key in state.alerts):
        return []
    if change.on:
        state.alerts[key] = change
    else:
        del state.alerts[key]
    return [PublishEvent("alert", change), say_alerts(state)]


def notice(state: State, change: Alert) -> list[Action]:
    """Turn an alert on or off, or publish a new detail of an active one."""
    key = (change.code, change.line, change.stream)
    before = state.alerts.get(key)
    if before is None or not change.on or before.detail == change.detail:
        return alert(state, change)
    state.alerts[key] = replace(change, acknowledged_by=before.acknowledged_by, acknowledged_at=before.acknowledged_at)
    return [PublishEvent("alert", state.alerts[key]), say_alerts(state)]


def acknowledge(state: State, key: tuple[str, str | None, str | None], user: str, now: Now) -> list[Action]:
    """Note that somebody has seen an active alert, until it is cleared; nothing where it was seen before."""
    before = state.alerts[key]
    if before.acknowledged_by is not msgspec.UNSET:
        return []
    state.alerts[key] = replace(before, acknowledged_by=user, acknowledged_at=now.text())
    return [PublishEvent("alert", state.alerts[key]), say_alerts(state)]


def say_alerts(state: State) -> Action:
    """Return the action that publishes the retained list of active alerts."""
    return PublishState("alerts", msgspec.json.encode(list(state.alerts.values())))


def _ready(state: State, line: Line) -> str:
    if state.stopping or state.identity.suspected_until_s is not None or not moves(state, line):
        return NOTHING
    product = line.selection.product
    return product if product is not None and serves_product(state, line) else NOTHING


def _phase(state: State, line: Line) -> Phase:
    if state.stopping:
        return "idle"
    if _is_at_fault(state, line):
        return "fault"
    pending = line.changeover
    if pending is not None and (pending.stage is Stage.PREPARING or line.selection.product is not None):
        return "preparing" if pending.stage is Stage.PREPARING else "switching"
    if line.is_faulty or line.assignment.degraded or not moves(state, line):
        return "degraded"
    if any(one.loading for one in line.preloads.preparations):
        return "preparing"
    return "idle" if line.published.ready == NOTHING else "ready"


def _is_at_fault(state: State, line: Line) -> bool:
    if line.is_faulty and line.published.ready == NOTHING:
        return True
    return line.changeover is None and missing(state.plant, line) is not None


def _streams_online(state: State, line: Line) -> bool:
    return all(state.streams[stream] == "online" for stream in state.streams_of(line.id))


def _say_ready(line: Line, value: str) -> list[Action]:
    actions = _say(line, "ready", value.encode())
    line.published.ready = value
    return [*actions, PublishLive(line.id, value)] if actions else []


def _say(line: Line, topic: OfLine, payload: bytes) -> list[Action]:
    if line.published.payloads.get(topic) == payload:
        return []
    line.published.payloads[topic] = payload
    return [PublishState(of_line(line.id, topic), payload)]
