"""Life cycle of a changeover: begun, superseded, switched, failed, timed out or resumed."""

from dataclasses import dataclass
from typing import Final

from agent.control.actions import Action, Answer, AssignLine, PublishEvent, SaveSnapshot
from agent.control.lines import selection, serving
from agent.control.lines.policy import Choice, choose
from agent.control.lines.report import alert, clear_ready_unless_true, publish_changes, serves_product
from agent.control.stages import MOVES, Stage
from agent.control.state import Changeover, Command, Line, Now, State
from agent.messages.children import Preparing, SwapFailed, Swapped, SwapReport
from agent.messages.errors import Reason
from agent.messages.payloads import Ack, AckResult, Alert, Cause, Switch, SwitchResult
from agent.messages.references import ModelVersion
from agent.messages.topics import of_line

_RESIDENT: Final = SwapReport("resident", "make-before-break", 0.0, 0.0, 0.0, 0)
KEPT_ANSWERS: Final = 1024
"""Most final acks kept for repeated command ids; beyond it the oldest are dropped."""
_LONGEST_KEPT_TOPIC: Final = 512
"""Longest topic in characters whose acks are kept, because no topic of this device is longer."""
_LONGEST_DETAIL: Final = 500
TRIAL_S: Final = 60.0
"""A model that fails within this time after its swap is rolled back; later failures are more likely the camera's."""
_WORKERS_A_CHANGEOVER_MAY_LOSE: Final = 1
"""Worker losses allowed during one changeover; at one more its model is taken to be the cause."""
_RETRY_S: Final = 10.0
"""Retry interval of a line where no model serves, because a missing file or memory may be back."""


_RESULTS: Final[dict[Stage, tuple[SwitchResult, AckResult]]] = {
    Stage.SWITCHED: ("switched", "done"),
    Stage.FAILED: ("failed", "failed"),
    Stage.SUPERSEDED: ("superseded", "failed"),
}


@dataclass(frozen=True)
class _Outcome:
    stage: Stage
    reason: Reason | None = None
    detail: str | None = None
    report: SwapReport | None = None


def begin(
    state: State, line: Line, commands: list[Command], now: Now, because: tuple[Cause, str | None] | None = None
) -> list[Action]:
    """Begin a changeover to the model that the line's rules choose now; one in progress is superseded.

    The caller has cleared `ready` where the product changes. `because` is the cause where it is not that of the rules,
    with the detail of the report where nothing fails.
    """
    choice = choose(state.plant, line)
    own = (choice.asker if commands else choice.cause, None)
    wanted, (cause, words) = choice.wanted, because or own
    overtaken = supersede(state, line, now)
    if commands:
        serving.forget_cap(line)
    if wanted is None:
        lacks = f"the catalog has nothing for {cause.rule} {cause.value or ''}".rstrip()
        return overtaken + answer_all(state, commands, "rejected", "unknown_model", lacks)
    assigned = line.assignment
    assigned.cause, assigned.failed = cause, False
    assigned.chosen, assigned.degraded = wanted, choice.degraded
    line.changeover = _changeover(line, wanted, cause, commands, now)
    line.changeover.decided = choice.asked.reference if choice.asked is not None else None
    line.changeover.words = words
    is_settled = assigned.target == wanted and not assigned.unconfirmed
    if state.group_of(line).is_up and is_settled and line.serving.model == wanted.reference:
        return overtaken + _finish(state, line, _RESIDENT, now)
    assign = _assign(state, line, wanted)
    actions = clear_ready_unless_true(state, line) + overtaken
    return [*actions, *answer_all(state, commands, "accepted"), *assign]


def follow(state: State, line: Line, choice: Choice, now: Now) -> list[Action]:
    """Begin a changeover where rules ask for another model; never before the dwell time or during a changeover."""
    assigned, wanted = line.assignment, choice.wanted
    assigned.degraded = choice.degraded
    is_waiting = assigned.target is None and not state.group_of(line).is_up
    if is_waiting or line.changeover is not None or wanted is None or wanted == assigned.chosen:
        return []
    is_compared = line.comparison is not None and not line.comparison.is_over
    is_held = (line.id in state.orders.held or is_compared) and _is_newer(wanted, assigned.chosen)
    if is_held or now.monotonic_s < assigned.dwell_until_s:
        return []
    assigned.dwell_until_s = now.monotonic_s + line.rules.dwell_s
    if wanted == assigned.target and wanted.reference == line.serving.model:
        assigned.chosen, assigned.cause, assigned.failed = wanted, choice.cause, False
        return alert(state, Alert("swap_failed", on=False, line=line.id))
    return [*begin(state, line, [], now), SaveSnapshot()]


def _is_newer(wanted: ModelVersion, chosen: ModelVersion | None) -> bool:
    """Return True for another version of the same model and variant, which an order brought."""
    return chosen is not None and (wanted.name, wanted.variant) == (chosen.name, chosen.variant)


def cancel(state: State, line: Line, now: Now) -> list[Action]:
    """Cancel the changeover without a successor: the worker keeps its last confirmed model."""
    actions = supersede(state, line, now)
    if line.assignment.unconfirmed and line.assignment.settled is not None:
        actions += _assign(state, line, line.assignment.settled)
    line.assignment.chosen = line.assignment.target
    return actions


def supersede(state: State, line: Line, now: Now) -> list[Action]:
    """End the line's changeover as superseded, and answer commands that waited for it or since before a restart."""
    overtaken = _Outcome(Stage.SUPERSEDED, "superseded", "a newer command came")
    if line.changeover is not None:
        return _close(state, line, overtaken, now)
    return answer_all(state, _take_waiting(line), "failed", overtaken.reason, overtaken.detail)


def _take_waiting(line: Line) -> list[Command]:
    waiting, line.assignment.waiting = line.assignment.waiting, []
    return waiting


def resume(state: State, line: Line, now: Now) -> list[Action]:
    """Assign the line's model to a new worker, at start-up as after a crash."""
    if line.changeover is not None:
        return _assign(state, line, line.changeover.to)
    if line.assignment.target is None:
        actions, product = begin(state, line, _take_waiting(line), now), line.selection.product
        unknown = Alert("unknown_product", on=True, line=line.id, detail=f"no product {product!r}")
        return actions + (alert(state, unknown) if product is not None and line.own is None else [])
    line.changeover = _changeover(line, line.assignment.target, Cause("recovery"), [], now)
    return _assign(state, line, line.assignment.target)


def retry_if_nothing_serves(state: State, line: Line, now: Now) -> list[Action]:
    """Assign the line's model again where no model serves and no changeover is in progress."""
    assigned = line.assignment
    is_idle = line.serving.model is None and line.changeover is None and not assigned.unconfirmed
    if not (is_idle and state.group_of(line).is_up) or assigned.target is None:
        assigned.retry_at_s = now.monotonic_s + _RETRY_S
        return []
    return _assign(state, line, assigned.target) if now.monotonic_s >= assigned.retry_at_s else []


def preparing(line: Line, message: Preparing) -> list[Action]:
    """Record that the changeover's model is being compiled, or no longer is."""
    if line.changeover is not None and message.change == line.assignment.change:
        _move(line.changeover, Stage.PREPARING if message.on else Stage.SWITCHING)
    return []


def swapped(state: State, message: Swapped, now: Now) -> list[Action]:
    """Record the serving model, and finish the changeover that asked for it."""
    line = state.lines[message.line]
    serving.reported(line, message.model)
    actions = _confirmed(state, line, message, now)
    serving.end_blind_time(line)
    return actions


def _confirmed(state: State, line: Line, message: Swapped, now: Now) -> list[Action]:
    if message.change != line.assignment.change:
        return []
    line.assignment.unconfirmed.clear()
    line.assignment.settled = line.assignment.target
    if line.changeover is None:
        return _come_late(state, line)
    if line.changeover.cause.rule != "recovery":
        line.assignment.trial_until_s = now.monotonic_s + TRIAL_S
    return _finish(state, line, message.report, now)


def swap_failed(state: State, message: SwapFailed, now: Now) -> list[Action]:
    """Record the model that still serves after a failed swap, and end the changeover as failed."""
    line = state.lines[message.line]
    serving.reported(line, message.active)
    actions = _refused(state, line, message, now)
    serving.end_blind_time(line)
    return actions


def end_trial(line: Line) -> None:
    """End the time in which a failing model is rolled back automatically."""
    line.assignment.trial_until_s = 0.0


def _refused(state: State, line: Line, message: SwapFailed, now: Now) -> list[Action]:
    if message.change != line.assignment.change:
        return []
    line.assignment.unconfirmed.clear()
    if line.changeover is None:
        return []
    line.assignment.target = line.assignment.settled or line.assignment.target
    return _fail(state, line, message.reason, message.detail, now)


def worker_lost(state: State, line: Line, now: Now) -> list[Action]:
    """Record that no model serves; fail a changeover that seems to kill workers."""
    serving.lost(line, now)
    line.assignment.unconfirmed.clear()
    pending, settled = line.changeover, line.assignment.settled
    if pending is None:
        return []
    pending.workers_lost += 1
    _move(pending, Stage.WAITING)
    if pending.workers_lost <= _WORKERS_A_CHANGEOVER_MAY_LOSE or settled is None or settled == pending.to:
        return []
    line.assignment.target = settled
    return _fail(state, line, "worker_lost", f"the worker died twice while {pending.to.reference} was loading", now)


def expire(state: State, line: Line, now: Now) -> list[Action]:
    """Fail a changeover at its timeout, and return the line to its previous model."""
    pending = line.changeover
    if pending is None or now.monotonic_s < pending.deadline_s:
        return []
    settled = line.assignment.settled
    detail = f"{pending.to.reference} did not serve within {line.rules.changeover_timeout_s:g} s"
    detail += "; its .pt is still being prepared, which goes on" if pending.stage is Stage.PREPARING else ""
    if settled is None or settled == pending.to:
        # The changeover continues, because no other model could serve; waiting commands are answered at each timeout.
        pending.deadline_s = now.monotonic_s + line.rules.changeover_timeout_s
        line.assignment.failed = line.assignment.failed or pending.cause.rule != "recovery"
        waiting, pending.commands = pending.commands, []
        actions = answer_all(state, waiting, "failed", "timeout", detail)
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


def answer_all(
    state: State, commands: list[Command], result: AckResult, reason: Reason | None = None, detail: str | None = None
) -> list[Action]:
    """Acknowledge several commands with the same answer."""
    return [action for command in commands for action in answer(state, command, result, reason, detail)]


def rejected(line: Line, cause: Cause, reason: Reason, now: Now) -> Action:
    """Return the `switch` report of a product that was rejected at once."""
    switch = Switch(
        line=line.id,
        product=cause.value,
        from_=line.serving.model,
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
    return PublishEvent(of_line(line.id, "switch"), switch)


def _changeover(line: Line, to: ModelVersion, cause: Cause, commands: list[Command], now: Now) -> Changeover:
    return Changeover(
        cause=cause,
        product=line.selection.product,
        from_=line.serving.model,
        to=to,
        requested=now,
        deadline_s=now.monotonic_s + line.rules.changeover_timeout_s,
        commands=commands,
    )


def _move(pending: Changeover, stage: Stage) -> None:
    """Move to a stage, unless the table has no such move from the present one."""
    if stage in MOVES[pending.stage]:
        pending.stage = stage


def _assign(state: State, line: Line, model: ModelVersion) -> list[Action]:
    line.assignment.change += 1
    line.assignment.target = model
    if not state.group_of(line).is_up:
        return []
    line.assignment.unconfirmed.add(model)
    if line.changeover is not None:
        _move(line.changeover, Stage.SWITCHING)
    return [AssignLine(line.id, line.assignment.change, model, keeps_ready=serves_product(state, line))]


def _finish(state: State, line: Line, report: SwapReport, now: Now) -> list[Action]:
    if line.changeover is not None and line.changeover.cause.rule != "recovery":
        line.assignment.failed = False
        _note(line, line.changeover)
    closing = _close(state, line, _Outcome(Stage.SWITCHED, report=report), now)
    # `ready` is published before the reports, because a PLC waits for it.
    return [*publish_changes(state, line, now), *closing, *alert(state, Alert("swap_failed", on=False, line=line.id))]


def _come_late(state: State, line: Line) -> list[Action]:
    """Clear the failure of a changeover whose model serves after all."""
    if line.assignment.chosen is None or line.assignment.target != line.assignment.chosen:
        return []
    line.assignment.failed = False
    return alert(state, Alert("swap_failed", on=False, line=line.id))


def _note(line: Line, done: Changeover) -> None:
    """Add a model that serves by decision to the rollback history."""
    if done.decided is not None and done.cause.rule != "rollback":
        selection.served(line, done.decided)


def _fail(state: State, line: Line, reason: Reason, detail: str, now: Now) -> list[Action]:
    line.assignment.failed = True
    serving.forget_cap(line)
    actions = _close(state, line, _Outcome(Stage.FAILED, reason, detail), now)
    return actions + alert(state, Alert("swap_failed", on=True, line=line.id, detail=f"{reason}: {detail}"))


def _close(state: State, line: Line, outcome: _Outcome, now: Now) -> list[Action]:
    pending, line.changeover = line.changeover, None
    report = outcome.report
    assert pending is not None, "only a changeover under way can end"
    _move(pending, outcome.stage)
    result, ack_result = _RESULTS[pending.stage]
    total_ms = round((now.monotonic_s - pending.requested.monotonic_s) * 1000, 1)
    blind_ms = serving.blind_ms(line, report, now)
    order = report.order if report is not None else None
    switch = Switch(
        line=line.id,
        product=pending.product,
        from_=pending.from_,
        to=pending.to.reference,
        cause=pending.cause,
        result=result,
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
        detail=outcome.detail or pending.words,
    )
    acks = answer_all(state, pending.commands, ack_result, outcome.reason, outcome.detail)
    return [PublishEvent(of_line(line.id, "switch"), switch), SaveSnapshot(), *acks]
