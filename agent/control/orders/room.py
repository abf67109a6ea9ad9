"""Ordered models that lack memory for their proof: they wait until others leave it to them."""

from typing import Final

from agent.control.actions import Action, PrepareModel
from agent.control.job import Job, Step
from agent.control.lines import preload
from agent.control.orders import jobs
from agent.control.orders.jobs import Why
from agent.control.state import Now, State
from agent.messages.children import PrepareFailed

WAIT_S: Final = 86_400.0
"""Time without memory after which a job fails."""
_AGAIN_S: Final = (60.0, 600.0)
"""First and longest wait before a proof is tried again."""
_LEFT_S: Final = 5.0
"""Time after a changeover by which the memory of the model before is free."""


def lacking(state: State, job: Job, failed: PrepareFailed, now: Now) -> list[Action]:
    """Have a proof tried again: at once where models of the same job can go, else when others may have gone.

    Fails the job after a day without memory.
    """
    since_s = job.lacks_memory_since_s
    job.lacks_memory_since_s = since_s = now.monotonic_s if since_s is None else since_s
    why = f"{failed.model}: {failed.detail}"
    if now.monotonic_s - since_s >= WAIT_S:
        return jobs.end(state, job, "failed", now, Why(failed.reason, why))
    job.preload_number = 0
    if job.held:
        job.prove_at_s = now.monotonic_s
        return _release(state, job)
    first_s, longest_s = _AGAIN_S
    wait_s = min(first_s * 2**job.attempts, longest_s)
    job.attempts, job.prove_at_s = min(job.attempts + 1, 16), now.monotonic_s + wait_s
    detail = f"{why}; tried again in {wait_s:.0f} s, and when a line has changed over"
    return jobs.move(state, job, "waiting", now, Why(failed.reason, detail))


def _release(state: State, job: Job) -> list[Action]:
    """End the reservations of the job's models, which are proven and load again when they are needed."""
    held, job.held = job.held, []
    return [PrepareModel(line, preload.next_number(state), version, 0.0) for line, version in held]


def line_changed_over(state: State, now: Now) -> None:
    """Have a proof that lacks memory tried again soon, since a line has left a model."""
    job = state.orders.job
    if job is not None and job.step is Step.PROVE and job.prove_at_s is not None:
        job.prove_at_s = min(job.prove_at_s, now.monotonic_s + _LEFT_S)
