"""Steps of a job, from the fetch to the activation; each event moves it to the next."""

from typing import Final

from agent.control.actions import Action, AskSupply, EndSupply, PrepareModel, ReadCatalog, SaveSnapshot
from agent.control.events import CatalogRead, ModelsLoading, SupplyLost
from agent.control.job import CANDIDATES_JOB, CATALOG_JOB, Job, Step
from agent.control.lines import changeover, preload
from agent.control.lines.policy import choose
from agent.control.orders import jobs, room, safe_points, upkeep
from agent.control.orders.jobs import Why
from agent.control.plant import Plant
from agent.control.state import Line, Now, State
from agent.messages.children import Prepared, PrepareFailed
from agent.messages.references import ModelReference, ModelVersion
from agent.messages.short_lived.supply import Entered, EnterModels, Fetched, FetchFailed, FetchModels, FetchProgress

JOB_S: Final = 7 * 86_400.0
"""Time limit of a job, its waits for a window and for changeovers included."""
FETCH_S: Final = 86_400.0
"""Time limit that the supply process gets for one request."""
STANDSTILL_S: Final = 3600.0
"""Time without any progress of a fetch, after which a job fails."""
_RETRY_S: Final = (10.0, 600.0)
"""First and longest wait before a fetch that failed is tried again."""
_SAVE_S: Final = 60.0
_RESTART_S: Final = 60.0
"""Time that a restart counts for, so that a device that restarts for ever still ends its jobs."""
_LOSSES: Final = 3
"""Losses of the supply process in a row that a job survives."""
_WORKERS_A_PROOF_MAY_LOSE: Final = 1
_LEAST_HOLD_S: Final = 1800.0
"""Least time for which a proven model stays loaded for its line; also the time limit of its preparation."""
_GIVES_WAY: Final = frozenset({Step.FETCH, Step.PROVE, Step.OPEN})
"""Steps at which a job for candidates leaves its place to that of the index, revoked models and missing files."""
_ENTERING: Final = frozenset({Step.ENTER, Step.REMOVE, Step.UNDO})


class UnknownModelError(ValueError):
    """An order would leave a line's reference without a model."""


def check(state: State, entries: tuple[bytes, ...], remove: tuple[str, ...]) -> Plant:
    """Return the plant as an order would make it. Raises ValueError where it may not."""
    if state.plant.supply.amended is None:
        raise ValueError("this device takes no models by message")
    if state.plant.supply.closed:
        raise ValueError(state.plant.supply.closed)
    plant = state.plant.supply.amended(entries, remove)
    for line in state.lines.values():
        for name, reference in (("its default", line.rules.default), *line.rules.products.items()):
            had = state.plant.find(reference, line.rules.variant) is not None
            if had and plant.find(reference, line.rules.variant) is None:
                raise UnknownModelError(f"remove: {line.id} would have no model for {name} ({reference})")
    return plant


def _checked(state: State, entries: tuple[bytes, ...], remove: tuple[str, ...]) -> Plant | Why:
    """Return the plant as an order would make it, else why not, since rules or catalog may have changed."""
    try:
        return check(state, entries, remove)
    except UnknownModelError as error:
        return Why("unknown_model", str(error))
    except ValueError as error:
        return Why("not_understood", str(error))


def _refusal(state: State, entries: tuple[bytes, ...], remove: tuple[str, ...]) -> Why | None:
    checked = _checked(state, entries, remove)
    return checked if isinstance(checked, Why) else None


def tick(state: State, now: Now) -> list[Action]:
    """Begin what is due, and end what has taken too long."""
    safe_points.release(state)
    actions = jobs.say_all(state)
    job = state.orders.job
    if job is not None and job.id == CANDIDATES_JOB and job.step in _GIVES_WAY and upkeep.is_due(state, now):
        why = Why("superseded", "the catalog's own job is due")
        actions += jobs.end(state, job, "superseded", now, why)
        job = None
    if job is None:
        return actions + upkeep.begin(state, now)
    if job.unreadable:
        return actions + jobs.end(state, job, "failed", now, Why("not_understood", job.unreadable))
    if job.begun_s is None:
        job.begun_s = job.progress_s = now.monotonic_s
        state.orders.save_at_s = now.monotonic_s + _SAVE_S
        return actions + _resume(state, job, now)
    if job.spent_s + now.monotonic_s - job.begun_s >= JOB_S:
        return actions + jobs.end(state, job, "failed", now, Why("timeout", "its time on the device is over"))
    if now.monotonic_s >= state.orders.save_at_s:
        state.orders.save_at_s = now.monotonic_s + _SAVE_S
        job.spent_s += now.monotonic_s - job.begun_s
        job.begun_s = now.monotonic_s
        state.unsaved = True
    return actions + _due(state, job, now)


def _due(state: State, job: Job, now: Now) -> list[Action]:
    match job.step:
        case Step.FETCH:
            return _fetch_due(state, job, now)
        case Step.PROVE if job.prove_at_s is not None and now.monotonic_s >= job.prove_at_s:
            return _prove(state, job, now)
        case Step.OPEN:
            return _open(state, job, now)
        case Step.TURN | Step.SETTLE if safe_points.turned(state, job):
            return _turned(state, job, now)
    return []


def restored(job: Job) -> None:
    """Count a restart as time that the job has taken."""
    job.spent_s += _RESTART_S


def _resume(state: State, job: Job, now: Now) -> list[Action]:
    """Begin a job's present step, at its start as after a restart."""
    match job.step:
        case Step.FETCH:
            job.fetch_at_s = now.monotonic_s
            return _fetch_due(state, job, now)
        case Step.PROVE:
            return _prove(state, job, now)
        case Step.OPEN:
            return _open(state, job, now)
    return _change(job)


def _change(job: Job) -> list[Action]:
    """Have the catalog changed, where that is a job's present step."""
    match job.step:
        case Step.ENTER:
            return [AskSupply(EnterModels(job.id, job.entries, ()))]
        case Step.REMOVE:
            return [AskSupply(EnterModels(job.id, (), job.remove))]
        case Step.UNDO:
            return [AskSupply(EnterModels(job.id, (), job.added))]
    return []


# ---- fetch


def _fetch_due(state: State, job: Job, now: Now) -> list[Action]:
    supply = state.plant.supply
    is_open = supply.in_window(now.unix_s)
    if not is_open:
        job.progress_s = now.monotonic_s
    if job.fetch_at_s is None:
        return []
    if not is_open:
        return jobs.move(state, job, "queued", now, Why(detail=f"waits for the window {supply.window}"))
    if now.monotonic_s < job.fetch_at_s:
        return []
    job.fetch_at_s = None
    asked = AskSupply(FetchModels(job.id, job.entries, job.index, FETCH_S))
    return [*jobs.move(state, job, "queued", now), asked]


def progress(state: State, message: FetchProgress, now: Now) -> list[Action]:
    """Publish how far a fetch is."""
    job = _of(state, message.job, Step.FETCH)
    if job is None:
        return []
    if message.bytes > job.bytes:
        job.progress_s, job.attempts, job.lost = now.monotonic_s, 0, 0
        state.orders.bytes += message.bytes - job.bytes
    job.bytes, job.total, job.rate_kbps, job.eta_s = message.bytes, message.total, message.kbps, message.eta_s
    return jobs.move(state, job, message.state, now) or jobs.say(state, job)


def fetched(state: State, message: Fetched, now: Now) -> list[Action]:
    """Go on to the proof, or, for the catalog's own files, read the catalog again."""
    job = _of(state, message.job, Step.FETCH)
    if job is None:
        return []
    if upkeep.reads_index(job):
        upkeep.index_was_read(state, now)
    if job.id == CATALOG_JOB:
        return [*jobs.end(state, job, "done", now), ReadCatalog()]
    refusal = _refusal(state, message.entries, job.remove)
    if refusal is not None:
        return jobs.end(state, job, "failed", now, refusal)
    versions = state.plant.supply.versions(message.entries)
    job.entries, job.rate_kbps, job.eta_s = message.entries, 0.0, None
    job.models = tuple(version.reference for version in versions)
    job.step, job.attempts = Step.PROVE, 0
    return [*_prove(state, job, now), SaveSnapshot()]


def failed(state: State, message: FetchFailed, now: Now) -> list[Action]:
    """End a job whose request failed, or try again later where that may help."""
    job = state.orders.job
    if job is None or job.id != message.job:
        return []
    is_over = now.monotonic_s - job.progress_s >= STANDSTILL_S
    if job.step is Step.FETCH and message.is_transient and not is_over and not upkeep.reads_index(job):
        first_s, longest_s = _RETRY_S
        wait_s = min(first_s * 2**job.attempts, longest_s)
        job.attempts, job.fetch_at_s = min(job.attempts + 1, 16), now.monotonic_s + wait_s
        detail = f"{message.detail}; tried again in {wait_s:.0f} s"
        return [*jobs.move(state, job, "queued", now, Why(message.reason, detail)), EndSupply()]
    if job.step is not Step.FETCH and job.step not in _ENTERING:
        return []
    is_of_models = job.step is Step.FETCH and not upkeep.reads_index(job)
    has_news = is_of_models and (job.index or state.plant.supply.index or job.id == CATALOG_JOB)
    ended = jobs.end(state, job, "failed", now, Why(message.reason, message.detail))
    # Its index, with what that revokes, or models of the catalog before the one that failed may have come.
    return [*ended, ReadCatalog()] if has_news else ended


def lost(state: State, event: SupplyLost, now: Now) -> list[Action]:
    """Count a loss of the supply process, and end a job that seems to cause them."""
    job = state.orders.job
    if job is None:
        return []
    job.lost += 1
    if job.lost <= _LOSSES:
        return []
    detail = f"the supply process ended {job.lost} times: {event.detail}"
    return jobs.end(state, job, "failed", now, Why("source_hung" if event.is_hung else "cut_off", detail))


# ---- proof


def _prove(state: State, job: Job, now: Now) -> list[Action]:
    """Have the worker load and prove the next model, beside what serves."""
    job.prove_at_s = None
    plant = _checked(state, job.entries, job.remove)
    if isinstance(plant, Why):
        return jobs.end(state, job, "failed", now, plant)
    versions = state.plant.supply.versions(job.entries)
    if job.proven >= len(versions):
        job.step, job.preload_number = Step.OPEN, 0
        return [*_open(state, job, now), SaveSnapshot()]
    actions = jobs.move(state, job, "preparing", now)
    version = versions[job.proven]
    line = _line_for(state, plant, version)
    if line is None or not state.group_of(line).is_up:
        return actions
    job.preload_number, job.prover = preload.next_number(state), line.rules.group
    hold_s = max(line.rules.prepare_s, _LEAST_HOLD_S)
    return [*actions, PrepareModel(line.id, job.preload_number, version, hold_s, preload.ARTIFACT_S)]


def _line_for(state: State, plant: Plant, version: ModelVersion) -> Line | None:
    """Return the line that will serve the version first in `plant`, else any."""
    lines = list(state.lines.values())
    wanting = (line for line in lines if choose(plant, line).wanted == version)
    naming = (line for line in lines if any(one.name == version.name for one in _named(line)))
    return next(wanting, None) or next(naming, None) or next(iter(lines), None)


def _named(line: Line) -> list[ModelReference]:
    return [line.rules.default, *line.rules.products.values()]


def loading(state: State, event: ModelsLoading, now: Now) -> list[Action]:
    """Note that a model's preparation is over, since its load has begun."""
    job = state.orders.job
    if job is None or job.step is not Step.PROVE or job.state != "preparing" or not job.preload_number:
        return []
    version = state.plant.supply.versions(job.entries)[job.proven]
    return jobs.move(state, job, "proving", now) if version.reference in event.references else []


def proved(state: State, message: Prepared | PrepareFailed, now: Now) -> list[Action]:
    """Go on to the next model, or end the job where one failed."""
    job = state.orders.job
    if job is None or job.step is not Step.PROVE or message.number != job.preload_number:
        return []
    if isinstance(message, PrepareFailed):
        if message.may_fit:
            return room.lacking(state, job, message, now)
        detail = f"{message.model}: {message.detail}"
        return jobs.end(state, job, "failed", now, Why(message.reason, detail))
    job.held.append((message.line, state.plant.supply.versions(job.entries)[job.proven]))
    job.proven, job.preload_number = job.proven + 1, 0
    job.lacks_memory_since_s, job.attempts = None, 0
    return [*jobs.move(state, job, "proving", now), *_prove(state, job, now)]


def worker_up(state: State, group: str, now: Now) -> list[Action]:
    """Have the present model proven by a new worker, unless that of another group is at it."""
    job = state.orders.job
    if job is None:
        return []
    job.held = [(line, version) for line, version in job.held if state.lines[line].rules.group != group]
    if job.step is not Step.PROVE or (job.preload_number and job.prover != group):
        return []
    return _prove(state, job, now)


def worker_lost(state: State, group: str, now: Now) -> list[Action]:
    """Give up a job whose model has killed a second worker."""
    job = state.orders.job
    if job is None or job.step is not Step.PROVE or not job.preload_number or job.prover != group:
        return []
    job.workers_killed += 1
    if job.workers_killed <= _WORKERS_A_PROOF_MAY_LOSE:
        return []
    detail = f"the worker died twice while {job.models[job.proven]} was loading"
    return jobs.end(state, job, "failed", now, Why("worker_lost", detail))


# ---- activation


def _open(state: State, job: Job, now: Now) -> list[Action]:
    """Enter the models once the order allows it: in the window, or at once, since lines wait for their safe point."""
    supply = state.plant.supply
    if job.activate == "window" and not supply.in_window(now.unix_s):
        told = jobs.move(state, job, "waiting", now, Why(detail=f"waits for the window {supply.window}"))
        return [*told, EndSupply()] if told else []
    refusal = _refusal(state, job.entries, job.remove) if job.id != CATALOG_JOB else None
    if refusal is not None:
        return jobs.end(state, job, "failed", now, refusal)
    job.step = Step.ENTER if job.entries else Step.REMOVE
    known = {version.reference for version in state.plant.models}
    job.added = job.added or tuple(one for one in job.models if one not in known)
    return [*jobs.move(state, job, "waiting", now), SaveSnapshot(), *_change(job)]


def entered(state: State, message: Entered) -> list[Action]:
    """Read the catalog again, which an order has changed."""
    job = state.orders.job
    is_due = job is not None and job.id == message.job and job.step in _ENTERING
    return [EndSupply(), ReadCatalog()] if is_due else []


def catalog_read(state: State, event: CatalogRead, now: Now) -> list[Action]:
    """Take the changed catalog, and have lines turn over at their next safe point."""
    job = state.orders.job
    is_entered = job is not None and job.step in _ENTERING
    if event.plant is None:
        return jobs.end(state, job, "failed", now, Why("not_understood", event.detail)) if job and is_entered else []
    before, actions = state.plant, safe_points.take_plant(state, event.plant)
    if job is None or not is_entered:
        return actions + _go_on(state, before, now)
    if job.step is Step.UNDO:
        return [*actions, *jobs.end(state, job, "cancelled", now)]
    job.lines = safe_points.affected(state)
    safe_points.hold(state, job)
    job.step = Step.TURN if job.step is Step.ENTER else Step.SETTLE
    waiting = [line for line in job.lines if line in state.orders.held]
    detail = f"waits for the next changeover of {', '.join(waiting)}" if waiting else None
    return [*actions, *jobs.move(state, job, "waiting", now, Why(detail=detail)), SaveSnapshot()]


def _go_on(state: State, before: Plant, now: Now) -> list[Action]:
    """Begin the changeovers that missing files had stopped."""
    supply = before.supply
    came = {version.reference for version in supply.versions(supply.missing)}
    actions: list[Action] = []
    for line in state.lines.values():
        wanted = choose(state.plant, line).wanted
        is_wanted = wanted is not None and wanted.reference in came and wanted.reference != line.serving.model
        if is_wanted and line.changeover is None:
            actions += changeover.begin(state, line, [], now)
    return actions


def _turned(state: State, job: Job, now: Now) -> list[Action]:
    """Go on when all lines have turned over: take off what the order removes, or end the job."""
    refused = safe_points.not_served(state, job)
    if refused:
        detail = f"{', '.join(refused)} did not turn over; the alert swap_failed says why"
        return jobs.end(state, job, "failed", now, Why("load_failed", detail))
    if job.step is Step.TURN and job.remove:
        refusal = _refusal(state, (), job.remove)
        if refusal is not None:
            return jobs.end(state, job, "failed", now, refusal)
        job.step = Step.REMOVE
        return [*_change(job), SaveSnapshot()]
    return jobs.end(state, job, "done", now)


def undo(state: State, job: Job, now: Now) -> list[Action] | None:
    """Cancel a job, and take off the catalog what it entered; None where the catalog is being changed, or was.

    Also None where a line needs by now what it entered.
    """
    if job.step in _ENTERING or job.step is Step.SETTLE:
        return None
    if job.step is not Step.TURN or not job.added:
        return jobs.end(state, job, "cancelled", now)
    if _refusal(state, (), job.added) is not None:
        return None
    job.step = Step.UNDO
    return [*_change(job), SaveSnapshot()]


def _of(state: State, id_: str, step: Step) -> Job | None:
    job = state.orders.job
    return job if job is not None and job.id == id_ and job.step is step else None
