"""Published state of jobs, and their end."""

from dataclasses import dataclass
from typing import Final

import msgspec

from agent.control.actions import Action, EndSupply, PublishState, SaveSnapshot
from agent.control.job import Job
from agent.control.lines.changeover import answer_all
from agent.control.state import Now, State
from agent.messages.errors import Reason
from agent.messages.payloads import AckResult, JobPhase, JobState
from agent.messages.topics import of_job

KEPT: Final = 16
"""Jobs whose state stays retained; those of older ones are cleared."""
_LONGEST_DETAIL: Final = 500


@dataclass(frozen=True)
class Why:
    """The reason of a state, and words for people."""

    reason: Reason | None = None
    detail: str | None = None


NOTHING_ODD: Final = Why()
_ACKS: Final[dict[JobPhase, AckResult]] = {"done": "done", "rejected": "rejected"}
"""Results of a job's commands by its last state; all other ends are `failed`."""


def say(state: State, job: Job) -> list[Action]:
    """Publish a job's state, and clear that of the oldest beyond the limit."""
    payload = msgspec.json.encode(
        JobState(
            id=job.id,
            rev=job.rev,
            state=job.state,
            reason=job.reason,
            detail=job.detail,
            bytes=job.bytes,
            total=job.total,
            kbps=round(job.rate_kbps, 1),
            eta_s=job.eta_s,
            models=list(job.models),
            since=job.state_since,
        )
    )
    states = state.orders.states
    if states.get(job.id) == payload:
        return []
    states.pop(job.id, None)
    states[job.id] = payload
    actions: list[Action] = [PublishState(of_job(job.id), payload)]
    while len(states) > KEPT:
        under_way = state.orders.job
        oldest = next(id_ for id_ in states if under_way is None or id_ != under_way.id)
        del states[oldest]
        actions.append(PublishState(of_job(oldest), b""))
    return actions


def say_all(state: State) -> list[Action]:
    """Publish the states from before a restart, once."""
    if state.orders.is_told:
        return []
    state.orders.is_told = True
    told: list[Action] = [PublishState(of_job(id_), one) for id_, one in state.orders.states.items() if one]
    return told + (say(state, state.orders.job) if state.orders.job is not None else [])


def move(state: State, job: Job, phase: JobPhase, now: Now, why: Why = NOTHING_ODD) -> list[Action]:
    """Move a job to a state and publish it; `why` says what it waits for, or why it ended so."""
    reason, detail = why.reason, why.detail
    words = detail[:_LONGEST_DETAIL].encode("utf-8", "replace").decode() if detail is not None else None
    if (job.state, job.reason, job.detail) == (phase, reason, words) and job.state_since:
        return []
    if job.state != phase or not job.state_since:
        job.state_since = now.text()
    job.state, job.reason, job.detail = phase, reason, words
    return say(state, job)


def end(state: State, job: Job, phase: JobPhase, now: Now, why: Why = NOTHING_ODD) -> list[Action]:
    """End a job: publish its last state, answer its commands, and end the supply process of the job under way."""
    job.rate_kbps, job.eta_s = 0.0, None
    supply: list[Action] = []
    if state.orders.job is job:
        state.orders.job = None
        supply = [EndSupply()]
    counts = state.orders.counts
    counts[phase] = counts.get(phase, 0) + 1
    actions = move(state, job, phase, now, why)
    commands, job.askers = job.askers, []
    reason: Reason | None = why.reason or ("superseded" if phase == "cancelled" else None)
    acks = answer_all(state, commands, _ACKS.get(phase, "failed"), reason, why.detail)
    return [*actions, *supply, SaveSnapshot(), *acks]
