"""Life cycle of a changeover: begun, superseded, done, failed, timed out or resumed."""

from dataclasses import dataclass
from typing import Final

from agent.control.actions import Action, Answer, AssignLine, PublishEvent, SaveSnapshot
from agent.control.lines import blind_time
from agent.control.lines.policy import choose
from agent.control.lines.report import alert, clear_ready_unless_true, publish_changes, serves_product
from agent.control.state import Changeover, Command, Line, Now, State
from agent.messages.children import Preparing, SwapFailed, Swapped, SwapReport
from agent.messages.errors import Reason
from agent.messages.payloads import Ack, AckResult, Alert, Cause, Switch, SwitchResult
from agent.messages.references import ModelVersion

_RESIDENT: Final = SwapReport("resident", "make-before-break", 0.0, 0.0, 0.0, 0)
KEPT_ANSWERS: Final = 1024
"""Final acks kept for repeated command ids; beyond, the oldest are dropped."""
_LONGEST_KEPT_TOPIC: Final = 512
"""Acks of longer topics are not kept, because no topic of ours is that long."""
_LONGEST_DETAIL: Final = 500
_KEPT_HISTORY: Final = 32
TRIAL_S: Final = 60.0
"""A model that fails within this time after its swap is rolled back; later the camera is more likely at fault."""
_WORKERS_A_CHANGEOVER_MAY_LOSE: Final = 1
"""A model whose load kills a second worker is held to be the cause."""
_RETRY_S: Final = 10.0
"""Retry interval of a line where no model serves, because a missing file or memory may be back."""


@dataclass(frozen=True)
class _Outcome:
    result: SwitchResult
    reason: Reason | None = None
    detail: str | None = None
    report: SwapReport | None = None


def begin(state: State, line: Line, commands: list[Command], now: Now) -> list[Action]:
    """Begin a changeover to the line's present choice, and supersede the one in progress.

    The caller has cleared `ready` where the product changes.
    """
    choice = choose(state.plant, line)
    wanted, cause = choice.wanted, choice.asker if commands else choice.cause
    overtaken = supersede(state, line, now)
    if commands:
        line.left_by_cap = None
    if wanted is None:
        lacks = f"the catalog has nothing for {cause.rule} {cause.value or ''}".rstrip()
        return overtaken + [
            one for command in commands for one in answer(state, command, "rejected", "unknown_model", lacks)
        ]
    line.fault, line.target_cause = line.standing_fault, cause
    line.chosen, line.degraded = wanted, choice.degraded
    line.changeover = _changeover(line, wanted, cause, commands, now)
    line.changeover.decided = choice.asked.reference if choice.asked is not None else None
    if state.worker_up and line.active == wanted.reference and line.target == wanted and not line.unconfirmed:
        return overtaken + _finish(state, line, _RESIDENT, now)
    assign = _assign(state, line, wanted)
    actions = clear_ready_unless_true(state, line) + overtaken
    for command in commands:
        actions += answer(state, command, "accepted")
    return actions + assign


def cancel(state: State, line: Line, now: Now) -> list[Action]:
    """Cancel the changeover without a successor: the worker keeps its last confirmed model."""
    actions = supersede(state, line, now)
    if line.unconfirmed and line.settled is not None:
        actions += _assign(state, line, line.settled)
    line.chosen = line.target
    return actions


def supersede(state: State, line: Line, now: Now) -> list[Action]:
    """End a changeover that a newer command replaced, also one from before a restart."""
    overtaken = _Outcome("superseded", "superseded", "a newer command came")
    if line.changeover is not None:
        return _close(state, line, overtaken, now)
    waiting, line.waiting = line.waiting, []
    return [one for command in waiting for one in answer(state, command, "failed", overtaken.reason, overtaken.detail)]


def resume(state: State, line: Line, now: Now) -> list[Action]:
    """Assign the line's model to a new worker, at start-up as after a crash."""
    if line.changeover is not None:
        return _assign(state, line, line.changeover.to)
    if line.target is None:
        waiting, line.waiting = line.waiting, []
        actions = begin(state, line, waiting, now)
        unknown = Alert("unknown_product", on=True, line=line.id, detail=f"no product {line.product!r}")
        return actions + (alert(state, unknown) if line.product is not None and not line.product_known else [])
    line.changeover = _changeover(line, line.target, Cause("recovery"), [], now)
    return _assign(state, line, line.target)


def retry_if_nothing_serves(state: State, line: Line, now: Now) -> list[Action]:
    """Assign the line's model again where no model serves and no changeover is in progress."""
    is_idle = line.active is None and line.changeover is None and not line.unconfirmed
    if not (is_idle and state.worker_up) or line.target is None:
        line.retry_at_s = now.monotonic_s + _RETRY_S
        return []
    return _assign(state, line, line.target) if now.monotonic_s >= line.retry_at_s else []


def preparing(line: Line, message: Preparing) -> None:
    """Record that the changeover's model is being compiled, or no longer is."""
    if line.changeover is not None and message.change == line.change:
        line.changeover.preparing = message.on


def swapped(state: State, message: Swapped, now: Now) -> list[Action]:
    """Record the serving model, and finish the changeover that asked for it."""
    line = state.lines[message.line]
    line.active, line.blind = message.model, False
    actions = _confirmed(state, line, message, now)
    blind_time.end(line)
    return actions


def _confirmed(state: State, line: Line, message: Swapped, now: Now) -> list[Action]:
    if message.change != line.change:
        return []
    line.unconfirmed.clear()
    line.settled = line.target
    if line.changeover is None:
        return _come_late(state, line)
    if line.changeover.cause.rule != "recovery":
        line.on_trial_until_s = now.monotonic_s + TRIAL_S
    return _finish(state, line, message.report, now)


def swap_failed(state: State, message: SwapFailed, now: Now) -> list[Action]:
    """Record the model that the worker kept, and fail the changeover."""
    line = state.lines[message.line]
    line.active, line.blind = message.active, message.active is None and line.blind
    actions = _refused(state, line, message, now)
    blind_time.end(line)
    return actions


def _refused(state: State, line: Line, message: SwapFailed, now: Now) -> list[Action]:
    if message.change != line.change:
        return []
    line.unconfirmed.clear()
    if line.changeover is None:
        return []
    line.target = line.target if line.settled is None else line.settled
    return _fail(state, line, message.reason, message.detail, now)


def worker_lost(state: State, line: Line, now: Now) -> list[Action]:
    """Record that no model serves; fail a changeover that seems to kill workers."""
    if line.active is not None:
        blind_time.begin(line, now)
    line.active, line.blind, line.left_by_cap = None, False, None
    line.unconfirmed.clear()
    pending = line.changeover
    if pending is None:
        return []
    pending.workers_lost += 1
    if pending.workers_lost <= _WORKERS_A_CHANGEOVER_MAY_LOSE or line.settled is None or line.settled == pending.to:
        return []
    line.target = line.settled
    return _fail(state, line, "worker_lost", f"the worker died twice while {pending.to.reference} was loading", now)


def expire(state: State, line: Line, now: Now) -> list[Action]:
    """Fail a changeover at its timeout, and return the line to its previous model."""
    pending = line.changeover
    if pending is None or now.monotonic_s < pending.deadline_s:
        return []
    settled = line.settled
    detail = f"{pending.to.reference} did not serve within {line.rules.changeover_timeout_s:g} s"
    detail += "; its .pt is still being prepared, which goes on" if pending.preparing else ""
    if settled is None or settled == pending.to:
        # The changeover continues, because no other model could serve; waiting commands are answered at each timeout.
        pending.deadline_s = now.monotonic_s + line.rules.changeover_timeout_s
        line.fault = line.fault if pending.cause.rule == "recovery" else "timeout"
        waiting, pending.commands = pending.commands, []
        actions = [one for command in waiting for one in answer(state, command, "failed", "timeout", detail)]
        failed = Alert("swap_failed", on=True, line=line.id, detail=f"timeout: {detail}")
        return [*actions, *alert(state, failed), *([SaveSnapshot()] if waiting else [])]
    return _fail(state, line, "timeout", detail, now) + _assign(state, line, settled)


def answer(
    state: State, command: Command, result: AckResult, reason: Reason | None = None, detail: str | None = None
) -> list[Action]:
    """Acknowledge a command; keep a final ack for a repetition of the same id."""
    # Replaced, because a lone surrogate (possible in JSON) cannot be encoded.
    words = detail[:_LONGEST_DETAIL].encode("utf-8", "replace").decode() if detail is not None else None
    ack = Ack(command.id, command.topic, result, reason, words)
    if command.id is not None and result != "accepted" and len(command.topic) <= _LONGEST_KEPT_TOPIC:
        state.answers[command.topic, command.line, command.id] = ack
        while len(state.answers) > KEPT_ANSWERS:
            del state.answers[next(iter(state.answers))]
    return [Answer(ack, command.reply)]


def rejected(line: Line, cause: Cause, reason: Reason, now: Now) -> Action:
    """Return the `switch` report of a product that was rejected at once."""
    switch = Switch(
        line=line.id,
        product=cause.value,
        from_=line.active,
        to=None,
        cause=cause,
        result="rejected",
        reason=reason,
        residency=None,
        order=None,
        requested_at=now.text(),
        ready_at=None,
        load_ms=0.0,
        warmup_ms=0.0,
        total_ms=0.0,
        blind_ms=0.0,
        frames_lost=0,
    )
    return PublishEvent(f"line/{line.id}/switch", switch)


def _changeover(line: Line, to: ModelVersion, cause: Cause, commands: list[Command], now: Now) -> Changeover:
    return Changeover(
        cause=cause,
        product=line.product,
        from_=line.active,
        to=to,
        requested=now,
        deadline_s=now.monotonic_s + line.rules.changeover_timeout_s,
        commands=commands,
    )


def _assign(state: State, line: Line, model: ModelVersion) -> list[Action]:
    line.change += 1
    line.target = model
    if not state.worker_up:
        return []
    line.unconfirmed.add(model)
    return [AssignLine(line.id, line.change, model, keeps_ready=serves_product(state, line))]


def _finish(state: State, line: Line, report: SwapReport, now: Now) -> list[Action]:
    if line.changeover is not None and line.changeover.cause.rule != "recovery":
        line.fault = line.standing_fault
        _note(line, line.changeover)
    closing = _close(state, line, _Outcome("switched", report=report), now)
    # `ready` is published before the reports, because a PLC waits for it.
    return [*publish_changes(state, line, now), *closing, *alert(state, Alert("swap_failed", on=False, line=line.id))]


def _come_late(state: State, line: Line) -> list[Action]:
    """Clear the fault of a changeover whose model serves after all."""
    if line.chosen is None or line.target != line.chosen:
        return []
    line.fault = line.standing_fault
    return alert(state, Alert("swap_failed", on=False, line=line.id))


def _note(line: Line, done: Changeover) -> None:
    """Add a model that serves by decision to the rollback history."""
    if done.decided is None or done.cause.rule == "rollback":
        return
    if done.decided in line.history:
        line.history.remove(done.decided)
    line.history = [*line.history, done.decided][-_KEPT_HISTORY:]


def _fail(state: State, line: Line, reason: Reason, detail: str, now: Now) -> list[Action]:
    line.fault, line.left_by_cap = reason, None
    actions = _close(state, line, _Outcome("failed", reason, detail), now)
    return actions + alert(state, Alert("swap_failed", on=True, line=line.id, detail=f"{reason}: {detail}"))


def _close(state: State, line: Line, outcome: _Outcome, now: Now) -> list[Action]:
    pending, line.changeover = line.changeover, None
    report = outcome.report
    assert pending is not None, "only a changeover under way can end"
    total_ms = round((now.monotonic_s - pending.requested.monotonic_s) * 1000, 1)
    blind_ms = blind_time.so_far_ms(line, report, now)
    order = report.order if report is not None else None
    switch = Switch(
        line=line.id,
        product=pending.product,
        from_=pending.from_,
        to=pending.to.reference,
        cause=pending.cause,
        result=outcome.result,
        reason=outcome.reason,
        residency=report.residency if report else None,
        order="break-before-make" if blind_ms else order,
        requested_at=pending.requested.text(),
        ready_at=now.text() if report else None,
        load_ms=report.load_ms if report else 0.0,
        warmup_ms=report.warmup_ms if report else 0.0,
        total_ms=total_ms,
        blind_ms=blind_ms,
        frames_lost=report.frames_lost if report else 0,
        detail=outcome.detail,
    )
    actions: list[Action] = [PublishEvent(f"line/{line.id}/switch", switch), SaveSnapshot()]
    result: AckResult = "done" if outcome.result == "switched" else "failed"
    for command in pending.commands:
        actions += answer(state, command, result, outcome.reason, outcome.detail)
    return actions
