"""The agent's own jobs: the signed index, revoked models, files that the store lacks, and aliases that lines follow."""

from typing import Final

from agent.control.actions import Action, AskSupply, EndSupply
from agent.control.job import CANDIDATES_JOB, CATALOG_JOB, Job, Step
from agent.control.orders import jobs
from agent.control.orders.jobs import Why
from agent.control.state import Now, State
from agent.messages.short_lived.supply import FollowAliases

_REFETCH_S: Final = 600.0
"""Wait before missing files of the catalog are fetched again."""
_INDEX_S: Final = 86_400.0
"""Time from one reading of the index to the next."""
_INDEX_RETRY_S: Final = 3600.0
"""Wait before an index that could not be read is tried again."""


def begin(state: State, now: Now) -> list[Action]:
    """Begin the job where something is due and no order is under way; the index first, which says what may stay."""
    if state.stopping:
        return []
    return _begin_index(state, now) or _begin_models(state, now)


def is_due(state: State, now: Now) -> bool:
    """Return True where the agent's own files of the catalog, or the index, want the job."""
    supply, orders = state.plant.supply, state.orders
    is_index_due = supply.index and now.monotonic_s >= orders.index_at_s and supply.in_window(now.unix_s)
    return bool(is_index_due or ((supply.missing or supply.revoked) and now.monotonic_s >= orders.refetch_at_s))


def reads_index(job: Job) -> bool:
    """Return True for a job that reads the configured index, and fetches nothing."""
    return job.id == CATALOG_JOB and job.step is Step.FETCH and not job.entries


def index_was_read(state: State, now: Now) -> None:
    """Have the index read again in a day."""
    state.orders.index_at_s = now.monotonic_s + _INDEX_S


def follow(state: State, asked: FollowAliases, now: Now) -> list[Action]:
    """Begin to look at aliases; nothing is published of that unless it brings something."""
    job = Job(CANDIDATES_JOB, None, begun_s=now.monotonic_s, progress_s=now.monotonic_s)
    state.orders.job = job
    return [AskSupply(asked)]


def followed(state: State, now: Now, *, is_news: bool) -> list[Action]:
    """End a look that brought nothing; `is_news` after one that failed, whose state is then published."""
    job = state.orders.job
    assert job is not None, "a look is a job"
    if is_news or state.orders.states.get(CANDIDATES_JOB) == b"":  # b"": a restart has cut it off
        return jobs.end(state, job, "done", now)
    state.orders.job = None
    return [EndSupply()]


def _begin_models(state: State, now: Now) -> list[Action]:
    missing, revoked, orders = state.plant.supply.missing, state.plant.supply.revoked, state.orders
    if not (missing or revoked) or now.monotonic_s < orders.refetch_at_s:
        return []
    orders.refetch_at_s = now.monotonic_s + _REFETCH_S
    if revoked:
        orders.job = Job(CATALOG_JOB, None, remove=revoked, step=Step.OPEN, models=revoked)
        return jobs.move(state, orders.job, "queued", now, Why("revoked", f"{', '.join(revoked)} must go"))
    models = tuple(version.reference for version in state.plant.supply.versions(missing))
    orders.job = Job(CATALOG_JOB, None, entries=missing, models=models)
    return jobs.move(state, orders.job, "queued", now)


def _begin_index(state: State, now: Now) -> list[Action]:
    """Begin to read the index, in the window alone, because a job that waited for it would hold up others."""
    supply, orders = state.plant.supply, state.orders
    if not supply.index or now.monotonic_s < orders.index_at_s or not supply.in_window(now.unix_s):
        return []
    orders.index_at_s = now.monotonic_s + _INDEX_RETRY_S
    orders.job = Job(CATALOG_JOB, None)
    return jobs.move(state, orders.job, "queued", now)
