"""Candidates that an alias of a registry names: looked for, brought to the catalog, compared, their results told."""

from typing import Final

import msgspec

from agent.control.actions import Action, SaveSnapshot
from agent.control.canary import steps
from agent.control.canary.telling import agreement
from agent.control.comparisons.comparison import Comparison, is_of_one_model
from agent.control.comparisons.verdict import Verdict
from agent.control.job import CANDIDATES_JOB, Job, Step
from agent.control.lines import selection
from agent.control.orders import jobs, upkeep
from agent.control.orders import steps as orders
from agent.control.orders.jobs import Why
from agent.control.state import Line, Now, State
from agent.messages.payloads import JobPhase
from agent.messages.references import ModelReference, ModelVersion
from agent.messages.short_lived.supply import AliasesFound, Fetched, FetchFailed, FollowAliases, Followed

LONGEST_S: Final = 3600.0
"""Longest wait after a look that failed, and the wait before a version whose job failed is brought again."""

_GAVE_WAY: Final[tuple[JobPhase, ...]] = ("superseded", "cancelled")
"""Ends of a job that say nothing against what it was about."""


def tick(state: State, now: Now) -> list[Action]:
    """Go on with what was interrupted, begin what could not begin before, and have the aliases looked at when due."""
    following, lines = state.following, _lines(state)
    if not lines or state.stopping:
        return []
    resumed = [action for line in lines for action in _resume(state, line, now)]
    if state.orders.job is None:  # else a look may be under way, which tells the result of the version before
        resumed += begin_due(state, now)
    if resumed or state.orders.job is not None or not state.plant.supply.in_window(now.unix_s):
        return resumed
    _note_end(state, now)
    results = {line.id: result for line in lines if (result := _untold(line)) is not None}
    # What was interrupted may go on, so that a regular look is soon enough for its numbers.
    ended = [line for line in results if not _is_interrupted(state.lines[line])]
    has_news = any(following.tried.get(line) != results[line] for line in ended)
    if now.monotonic_s < following.look_at_s and (not has_news or following.failures):
        return []
    following.look_at_s, following.telling = now.monotonic_s + state.plant.canary.look_s, results
    following.tried.update(results)
    refused = (one for one, until_s in following.refused_until_s.items() if now.monotonic_s < until_s)
    known = (*(version.reference for version in state.plant.models), *refused)
    asked = FollowAliases(CANDIDATES_JOB, _aliases(state, lines), known, orders.FETCH_S)
    begun = upkeep.follow(state, asked, now)
    following.look_job = state.orders.job
    return begun


def found(state: State, message: AliasesFound, now: Now) -> list[Action]:
    """Begin the comparisons that are due, once what the aliases mean is in the catalog."""
    job, following = _job(state), state.following
    if job is None or job.step is not Step.FETCH or job.id != message.job:
        return []
    for id_, result in following.telling.items():
        line = state.lines[id_]
        if _key(state, line) not in message.unwritten:
            line.followed.told = result
            state.unsaved = True
        elif _alias(line) not in message.missed:
            line.followed.unwritten = result
    following.telling = {}
    kept = {key: following.meanings[key] for key in message.missed if key in following.meanings}
    following.meanings = kept | {(alias, variant): reference for alias, variant, reference in message.found}
    following.refused_until_s |= dict.fromkeys(message.refused, now.monotonic_s + LONGEST_S)
    asked = [line for line in _lines(state) if _alias(line) not in message.missed]
    withdrawn = [action for line in asked for action in _withdraw(state, line, now)]
    return withdrawn + _looked(state, message, job, now)


def _looked(state: State, message: AliasesFound, job: Job, now: Now) -> list[Action]:
    """Go on with the job where a look has brought versions, else end it, and begin what is due."""
    following, fault = state.following, message.fault
    bad = {(alias, variant) for alias, variant, reference in message.found if reference in message.refused}
    if fault is not None and {_alias(line) for line in _lines(state)} <= bad.union(message.missed):
        ended = failed(state, FetchFailed(message.job, fault.reason, fault.detail, fault.is_transient), now)
        return [*ended, *begin_due(state, now)]
    was_failing, following.failures = following.failures > 0 or bool(following.fault), 0
    if message.entries:
        brought = state.plant.supply.versions(message.entries)
        following.bringing = tuple(version.reference for version in brought)
        _hold_back(state, brought)
        return orders.fetched(state, Fetched(message.job, message.entries), now)
    following.look_job, before = None, following.fault
    following.fault = fault.detail if fault is not None else ""
    if fault is not None and fault.detail != before:
        ended = jobs.end(state, job, "failed", now, Why(fault.reason, fault.detail))
    else:
        ended = upkeep.followed(state, now, is_news=was_failing and fault is None)
    return [*ended, *begin_due(state, now)]


def failed(state: State, message: FetchFailed, now: Now) -> list[Action]:
    """End a look that failed; the next one comes later each time, and in an hour where no retry can help."""
    job = _job(state)
    if job is None or job.step is not Step.FETCH or job.id != message.job:
        return []
    _back_off(state, now, is_transient=message.is_transient)
    state.following.look_job = None
    return jobs.end(state, job, "failed", now, Why(message.reason, message.detail))


def begin_due(state: State, now: Now) -> list[Action]:
    """Begin the comparison of each line whose alias has moved to a version that the catalog has."""
    return [action for line in _lines(state) for action in _begin(state, line, now)]


def restore(line: Line, begun: str | None, told: str | None) -> None:
    """Restore what came of a line's alias before a restart."""
    line.followed.begun, line.followed.told = begun, told


def _withdraw(state: State, line: Line, now: Now) -> list[Action]:
    """End the comparison of a version that the line's alias no longer means."""
    meant, one = state.following.meanings.get(_alias(line)), line.comparison
    if one is None or one.is_over or one.candidate != line.followed.begun or one.candidate == meant:
        return []
    what = f"{line.rules.candidate} means {meant or 'nothing'} now"
    return steps.end(state, line, "stopped", Verdict("superseded", what), now)


def _begin(state: State, line: Line, now: Now) -> list[Action]:
    reference = state.following.meanings.get(_alias(line))
    serving, followed, running = line.serving.model, line.followed, line.comparison
    if reference is None or reference == followed.begun or serving is None or line.changeover is not None:
        return []
    if running is not None and not running.is_over and running.candidate != followed.begun:
        return []  # because somebody asked for that one
    if not is_of_one_model(reference, serving) or state.plant.loadable(reference) is None:
        return []
    if _untold(line) not in {None, followed.unwritten}:
        return []  # because the next look tells the result of the version before, at once if none has failed
    followed.begun, followed.told = reference, None
    if reference == serving:
        return [SaveSnapshot()]
    how = state.plant.canary
    one = Comparison(reference, how.mode, how.share, how.frames, how.promote, line.selection.product)
    return [*steps.begin(state, line, one, now), SaveSnapshot()]


def _resume(state: State, line: Line, now: Now) -> list[Action]:
    """Go on with the comparison of the line's alias, once the stable version that the line had left serves again."""
    before, serving = line.comparison, line.serving.model
    if before is None or not _is_interrupted(line) or serving is None or line.changeover is not None:
        return []
    is_back = serving == before.stable or (before.stable is None and is_of_one_model(before.candidate, serving))
    is_meant = state.following.meanings.get(_alias(line)) == before.candidate
    if not is_back or not is_meant or state.plant.loadable(before.candidate) is None:
        return []
    how = (before.mode, before.share, before.frames, before.promote)
    one = Comparison(before.candidate, *how, line.selection.product, counts=before.counts, since=before.since)
    return [*steps.begin(state, line, one, now), SaveSnapshot()]


def _is_interrupted(line: Line) -> bool:
    """Return True where a comparison of the line's alias waits for the line to serve its stable version again."""
    one = line.comparison
    return one is not None and one.is_interrupted and one.candidate == line.followed.begun


def _hold_back(state: State, brought: tuple[ModelVersion, ...]) -> None:
    """Have every line keep its version where rules would find one of `brought`, which only a comparison decides.

    Where a model's variant is brought for the first time, that version is the one of the nearest variant.
    """
    for version in brought:
        found = state.plant.find(ModelReference(version.name), version.variant)
        if found is not None:
            for line in state.lines.values():
                before = line.selection.instead.get(found.reference, found.reference)
                selection.prefer(line, before, over=version.reference)
                state.unsaved = True


def _note_end(state: State, now: Now) -> None:
    """Wait before looking again where a look was cut off, or before a version that its job has not brought."""
    following = state.following
    job, following.look_job = following.look_job, None
    bringing, following.bringing = following.bringing, ()
    if job is not None and job.state not in _GAVE_WAY:
        lacking = [one for one in bringing if state.plant.loadable(one) is None]
        following.refused_until_s |= dict.fromkeys(lacking, now.monotonic_s + LONGEST_S)
        if not bringing:
            _back_off(state, now, is_transient=True)
    past = [one for one, until_s in following.refused_until_s.items() if until_s <= now.monotonic_s]
    for one in past:
        del following.refused_until_s[one]


def _back_off(state: State, now: Now, *, is_transient: bool) -> None:
    """Count a look that failed, and have the next one come later."""
    following, usual_s = state.following, state.plant.canary.look_s
    following.failures += 1
    wait_s = min(usual_s * 2 ** min(following.failures, 8), LONGEST_S) if is_transient else LONGEST_S
    following.look_at_s = now.monotonic_s + max(wait_s, usual_s)


def _aliases(state: State, lines: list[Line]) -> tuple[Followed, ...]:
    """Return each alias once for each variant, with the results that its lines have not told."""
    tags: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
    for line in lines:
        own = tags.setdefault(_alias(line), [])
        if line.id in state.following.telling and line.comparison is not None:
            own.append(_tag(state, line, line.comparison))
    return tuple(Followed(alias, variant, tuple(own)) for (alias, variant), own in tags.items())


def _tag(state: State, line: Line, one: Comparison) -> tuple[str, str, str]:
    """Return the tag that tells a comparison's result: version, key, and JSON as the value."""
    told = {
        "result": one.result,
        "reason": one.end_reason,
        "detail": one.end_detail,
        "mode": one.mode,
        "stable": one.stable,
        "frames": one.counts.frames,
        "agree": agreement(one.counts)[0],
        "since": one.since,
        "ended_at": one.ended_at,
    }
    return one.candidate.rpartition("@")[2], _key(state, line), msgspec.json.encode(told).decode()


def _key(state: State, line: Line) -> str:
    """Return the key of the tag that a line's results have."""
    return f"changeover.{state.plant.base.rpartition('/')[2]}.{line.id}"


def _alias(line: Line) -> tuple[str, str]:
    """Return the alias that a line follows, and the variant that it asks for."""
    return line.rules.candidate, line.rules.variant


def _untold(line: Line) -> str | None:
    """Return what identifies the newest result of the alias's candidate; None where it was told, or there is none."""
    one = line.comparison
    if one is None or one.result == "running" or one.candidate != line.followed.begun:
        return None
    result = f"{one.candidate} {one.result} {one.ended_at or one.since}"
    return result if result != line.followed.told else None


def _lines(state: State) -> list[Line]:
    return [line for line in state.lines.values() if line.rules.candidate]


def _job(state: State) -> Job | None:
    job = state.orders.job
    return job if job is not None and job.id == CANDIDATES_JOB else None
