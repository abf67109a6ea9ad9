"""Steps of a comparison, from its start to its end; each event moves it on."""

from typing import Final, get_args

from agent.control.actions import (
    Action,
    CompareModels,
    EndComparison,
    PrepareModel,
    PublishEvent,
    RecordComparison,
    SaveSnapshot,
)
from agent.control.canary.telling import numbers, said
from agent.control.comparisons.comparison import Comparison, Stage
from agent.control.comparisons.totals import added
from agent.control.comparisons.verdict import Verdict, verdict
from agent.control.lines import changeover, preload, selection
from agent.control.lines.changeover import answer_all
from agent.control.lines.report import alert
from agent.control.state import Command, Line, Now, Override, State
from agent.messages.canary import CanaryReason, CanaryResult, Compared, ComparisonBegan, ComparisonFailed
from agent.messages.children import Prepared, PrepareFailed
from agent.messages.errors import Reason
from agent.messages.payloads import Alert, Cause, Switch
from agent.messages.references import ModelReference, ModelVersion
from agent.messages.topics import of_line

TELL_S: Final = 10.0
"""Interval at which a running comparison is published and saved."""
_HOLD_S: Final = 60.0
"""Time beyond the load's timeout for which the candidate is kept loaded until the comparison begins."""
_WORKERS_IT_MAY_LOSE: Final = 1
_CALM_FRAMES: Final = 500
"""Compared frames after which a lost worker is no longer held against the candidate."""
_LONGEST_DETAIL: Final = 500


def begin(state: State, line: Line, one: Comparison, now: Now) -> list[Action]:
    """Begin a comparison, or one that goes on after an interruption; one that runs is stopped."""
    before = line.comparison
    is_running = before is not None and not before.is_over
    actions = end(state, line, "stopped", _superseded("another comparison was asked for"), now) if is_running else []
    one.since = one.since or now.text()
    line.comparison = one
    actions += alert(state, Alert("candidate_rolled_back", on=False, line=line.id))
    return [*actions, said(state, line, one)]


def restore(line: Line, one: Comparison | None) -> None:
    """Restore the comparison from before a restart; `follow` goes on with it."""
    line.comparison = one


def follow(state: State, line: Line, now: Now) -> list[Action]:
    """Take the steps that are due, end a comparison whose line has moved on, and publish it every 10 s."""
    one = line.comparison
    if one is None or state.stopping:
        return []
    actions: list[Action] = []
    if not one.is_over:
        why = _moved_on(state, line, one)
        if why is not None:
            return _interrupt(state, line, one, why, now)
        actions = _go_on(state, line, one)
    actions += _warn(state, line, one)
    if actions or now.monotonic_s >= one.tell_at_s:
        one.tell_at_s = float("inf") if one.is_over else now.monotonic_s + TELL_S
        actions.append(said(state, line, one))
        state.unsaved = True
    return actions


def prepared(state: State, message: Prepared | PrepareFailed, now: Now) -> list[Action]:
    """Have the worker compare a candidate that it has loaded and proven, or end where it could not."""
    line = state.lines[message.line]
    one = line.comparison
    if one is None or one.stage is not Stage.LOADING or message.number != one.number:
        return []
    if isinstance(message, PrepareFailed):
        one.stage = Stage.WAITING  # because nothing is reserved for it
        return end(state, line, "rolled_back", Verdict(message.reason, f"{message.model}: {message.detail}"), now)
    candidate = _version(state, line, one.candidate)
    if candidate is None:
        return []  # because `follow` ends it
    one.stage = Stage.STARTING
    bounds = state.plant.canary
    kept = f"{state.plant.keep_dir}/{line.id}" if state.plant.keep_dir else ""
    how = (one.mode, one.share, bounds.memory, bounds.keep_bytes, kept)
    return [CompareModels(line.id, one.number, candidate, *how), said(state, line, one)]


def began(state: State, message: ComparisonBegan, now: Now) -> list[Action]:
    """Record that the candidate gets its frames, and answer the commands that asked for it."""
    line, one = state.lines[message.line], state.lines[message.line].comparison
    if one is None or one.stage is not Stage.STARTING or message.number != one.number:
        return []
    one.stage = Stage.RUNNING
    one.tell_at_s = now.monotonic_s + TELL_S
    commands, one.commands = one.commands, []
    return [said(state, line, one), SaveSnapshot(), *answer_all(state, commands, "done")]


def compared(state: State, message: Compared, now: Now) -> list[Action]:
    """Add what was counted, and decide where it suffices."""
    line, one = state.lines[message.line], state.lines[message.line].comparison
    if one is None or one.stage is not Stage.RUNNING or message.number != one.number:
        return []
    one.counts = added(one.counts, message.counts)
    against = verdict(one.counts, state.plant.canary, one.mode, a_person_decides=one.promote == "ask")
    if against is not None:
        return end(state, line, "rolled_back", against, now)
    if one.counts.frames < one.frames or one.result != "running":
        return []
    if one.promote == "auto" and one.is_of_one_model:
        has_shown = one.counts.objects >= state.plant.canary.least_frames  # because frames without objects all agree
        return promote(state, line, [], now) if has_shown else []
    one.result = "ready_to_promote"
    return [said(state, line, one), SaveSnapshot()]


def failed(state: State, message: ComparisonFailed, now: Now) -> list[Action]:
    """End a comparison whose candidate the worker gave up."""
    one = state.lines[message.line].comparison
    if one is None or one.stage not in {Stage.STARTING, Stage.RUNNING} or message.number != one.number:
        return []
    return end(state, state.lines[message.line], "rolled_back", Verdict(message.reason, message.detail), now)


def worker_lost(state: State, line: Line, now: Now) -> list[Action]:
    """Have the comparison go on in the next worker; a candidate with which two workers died is given up."""
    one = line.comparison
    if one is None or one.stage not in {Stage.LOADING, Stage.STARTING, Stage.RUNNING}:
        return []
    is_calm = one.counts.frames - one.frames_at_loss >= _CALM_FRAMES
    one.workers_lost = 1 if is_calm else one.workers_lost + 1
    one.frames_at_loss = one.counts.frames
    one.stage = Stage.WAITING
    if one.workers_lost <= _WORKERS_IT_MAY_LOSE:
        return [said(state, line, one)]
    lost = Verdict("worker_lost", f"the worker died twice while {one.candidate} was loaded")
    return end(state, line, "rolled_back", lost, now)


def promote(state: State, line: Line, commands: list[Command], now: Now) -> list[Action]:
    """End the comparison, and turn the line over to its candidate, which it keeps from then on."""
    one = line.comparison
    assert one is not None, "only a comparison under way is promoted"
    assert one.stable is not None, "it runs"
    cause = Cause("canary", commands[0].topic if commands else None, one.candidate)
    words = numbers(one.counts)
    actions = end(state, line, "promoted", Verdict(None, words), now)
    selection.prefer(line, one.candidate, over=one.stable)
    _replace_choice(line, one)
    return [*actions, *changeover.begin(state, line, commands, now, because=(cause, words)), SaveSnapshot()]


def end(state: State, line: Line, result: CanaryResult, why: Verdict, now: Now) -> list[Action]:
    """End a comparison: every frame is the stable model's again, and the end is published with its numbers."""
    one = line.comparison
    assert one is not None, "only a comparison can end"
    was = one.stage
    one.stage, one.result, one.ended_at = Stage.ENDED, result, now.text()
    one.end_reason, one.end_detail = why.reason, why.detail[:_LONGEST_DETAIL]
    one.tell_at_s = float("inf")
    commands, one.commands = one.commands, []
    actions: list[Action] = [EndComparison(line.id, one.number)] if was in {Stage.STARTING, Stage.RUNNING} else []
    if was is Stage.LOADING:
        actions += _release(state, line, one)
    actions += [said(state, line, one), RecordComparison(line.id, one)]
    if result == "rolled_back":
        actions += [PublishEvent(of_line(line.id, "switch"), _switch(line, one, now, was)), *_warn(state, line, one)]
    acks = answer_all(state, commands, "failed", _reason_of_ack(one.end_reason), one.end_detail)
    return [*actions, SaveSnapshot(), *acks]


def forget_rollback(state: State, line: Line) -> list[Action]:
    """Clear the alert of a rollback, which somebody has seen."""
    assert line.comparison is not None, "it was rolled back"
    line.comparison.is_seen = True
    return [*_warn(state, line, line.comparison), SaveSnapshot()]


def _go_on(state: State, line: Line, one: Comparison) -> list[Action]:
    """Have the worker load the candidate once the line's model has settled."""
    target, serving = line.assignment.target, line.serving.model
    is_settled = line.changeover is None and not line.assignment.unconfirmed and target is not None
    if one.stage is not Stage.WAITING or not state.group_of(line).is_up or not is_settled or target is None:
        return []
    candidate = _version(state, line, one.candidate)
    if serving != target.reference or candidate is None:
        return []
    if one.stable is None:
        one.stable = serving
        if one.is_of_one_model:
            # From now on, because the rules may already find the candidate, which is not decided for yet.
            selection.prefer(line, one.stable, over=one.candidate)
    one.stage, one.number, one.version = Stage.LOADING, preload.next_number(state), candidate
    hold_s = line.rules.changeover_timeout_s + _HOLD_S
    return [PrepareModel(line.id, one.number, candidate, hold_s, preload.ARTIFACT_S, is_candidate=True)]


def _release(state: State, line: Line, one: Comparison) -> list[Action]:
    """End the reservation of a candidate that may be loading."""
    if one.version is None:
        return []
    # Not without the wait for its artifact, which another line's comparison may still have.
    number = preload.next_number(state)
    return [PrepareModel(line.id, number, one.version, 0.0, preload.ARTIFACT_S, is_candidate=True)]


def _interrupt(state: State, line: Line, one: Comparison, why: Verdict, now: Now) -> list[Action]:
    """End a comparison whose line has moved on; one that an alias began may go on, and says so."""
    target = line.assignment.target
    is_chosen = target is not None and target.reference == one.candidate
    one.is_interrupted = why.reason == "superseded" and not is_chosen
    if one.is_interrupted and line.rules.candidate and one.candidate == line.followed.begun:
        why = _superseded(f"{why.detail}; it goes on when {one.stable or 'its model'} serves again")
    return end(state, line, "stopped", why, now)


def _moved_on(state: State, line: Line, one: Comparison) -> Verdict | None:
    """Return why the comparison makes no sense any more; None while it does."""
    target = line.assignment.target
    if line.selection.product != one.product:
        return _superseded("the line's product changed")
    if one.stable is not None and target is not None and target.reference != one.stable:
        return _superseded(f"the line turned over to {target.reference}")
    if one.stable is None and target is not None and target.reference == one.candidate:
        return _superseded(f"{one.candidate} serves the line itself")
    if _version(state, line, one.candidate) is None:
        return Verdict("unknown_model", f"the catalog lacks {one.candidate}")
    return None


def _superseded(detail: str) -> Verdict:
    return Verdict("superseded", detail)


def _version(state: State, line: Line, reference: str) -> ModelVersion | None:
    parsed = ModelReference.parse(reference)
    return state.plant.find(parsed, line.rules.variant) if parsed is not None else None


def _replace_choice(line: Line, one: Comparison) -> None:
    """Replace the stable version by the candidate where a rollback or an operator named it."""
    if line.selection.rollback is not None:
        selection.roll_back(line, None)
    operator, candidate = line.selection.operator, ModelReference.parse(one.candidate)
    if operator is not None and operator.reference.version is not None and candidate is not None:
        selection.choose_model(line, Override(candidate, operator.cause))


def _warn(state: State, line: Line, one: Comparison) -> list[Action]:
    """Keep the alert on while a rollback is the last that is known of a comparison."""
    is_on = one.result == "rolled_back" and not one.is_seen
    detail = f"{one.candidate} ({one.mode}): {one.end_reason}: {one.end_detail}" if is_on else None
    return alert(state, Alert("candidate_rolled_back", on=is_on, line=line.id, detail=detail))


def _switch(line: Line, one: Comparison, now: Now, was: Stage) -> Switch:
    """Return the `switch` report of a rollback: back from a candidate that answered frames, else refused."""
    has_answered = one.mode == "canary" and was is Stage.RUNNING
    return Switch(
        line=line.id,
        product=line.selection.product,
        from_=one.candidate if has_answered else one.stable,
        to=one.stable if has_answered else one.candidate,
        cause=Cause("canary", value=one.candidate),
        result="switched" if has_answered else "rejected",
        reason=_reason_of_ack(one.end_reason),
        residency="resident" if has_answered else None,
        order="make-before-break" if has_answered else None,
        requested_at=now.text(),
        ready_at=now.text() if has_answered else None,
        load_ms=0.0,
        warmup_ms=0.0,
        total_ms=0.0,
        blind_ms=0.0,
        frames_lost=0,
        detail=f"{one.end_reason}: {one.end_detail}",
    )


def _reason_of_ack(reason: CanaryReason | None) -> Reason | None:
    """Return the reason as acks and switch reports know it; the words in `detail` say the rest."""
    return next((one for one in get_args(Reason) if one == reason), None)
