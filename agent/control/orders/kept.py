"""The part of the orders that is persisted over a restart."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from agent.control.job import CANDIDATES_JOB, Activate, Job, Orders, Step
from agent.control.orders import steps
from agent.control.state import Command
from agent.messages.errors import Reason
from agent.messages.payloads import JobPhase
from agent.messages.references import ModelVersion

Versions = Callable[[tuple[bytes, ...]], tuple[ModelVersion, ...]]
_AT_RESTART: Final[tuple[JobPhase, ...]] = ("downloading", "verifying")
"""States of a fetch that a restart begins again; the parts that came are kept."""


class KeptJob(msgspec.Struct, frozen=True):
    """The job under way."""

    id: str
    rev: int | None
    activate: Activate
    entries: tuple[bytes, ...]
    index: str
    remove: tuple[str, ...]
    askers: tuple[Command, ...]
    step: Step
    state: JobPhase
    reason: Reason | None
    detail: str | None
    state_since: str
    models: tuple[str, ...]
    added: tuple[str, ...]
    lines: tuple[str, ...]
    spent_s: float
    workers_killed: int
    unreadable: str = ""
    """Fault of a job that another release of the agent has kept, and this one cannot go on with."""

    @classmethod
    def of_parts(cls, parts: dict[str, Any], lacking: list[str]) -> "KeptJob":
        """Return a job that ends, because it lacks fields. Raises TypeError without its id."""
        if "id" not in parts:
            raise TypeError("a job without an id")
        told = {name: parts[name] for name in _TOLD if name in parts}
        fault = f"kept by another release of the agent: this one does not know its {', '.join(lacking)}"
        return msgspec.structs.replace(_UNREAD_JOB, **told, unreadable=fault)


_TOLD: Final = ("id", "rev", "askers", "state_since", "models")
"""Fields of a job that its last state and its answers need."""
_UNREAD_JOB: Final = KeptJob(
    id="",
    rev=None,
    activate="changeover",
    entries=(),
    index="",
    remove=(),
    askers=(),
    step=Step.FETCH,
    state="queued",
    reason=None,
    detail=None,
    state_since="",
    models=(),
    added=(),
    lines=(),
    spent_s=0.0,
    workers_killed=0,
)


class KeptOrders(msgspec.Struct, frozen=True):
    """The job under way, the newest accepted order, and the published states."""

    job: KeptJob | None = None
    accepted_rev: int | None = None
    accepted: str = ""
    states: dict[str, bytes] = {}


def take(orders: Orders) -> KeptOrders:
    """Return what is to be kept."""
    job = orders.job
    fields: dict[str, Any] = {}
    if job is not None:
        fields = {name: getattr(job, name) for name in KeptJob.__struct_fields__} | {"askers": tuple(job.askers)}
    # Not a look at aliases, which begins anew.
    kept = KeptJob(**fields) if job is not None and job.id != CANDIDATES_JOB else None
    states = dict.fromkeys(orders.states, b"") | _final(orders)
    return KeptOrders(kept, orders.accepted_rev, orders.accepted, states)


def restore(orders: Orders, kept: KeptOrders, versions: Versions) -> None:
    """Restore orders; a job under way goes on at its present step, or ends where this release cannot read it.

    `versions` is that of the plant's `Supply`.
    """
    orders.accepted_rev, orders.accepted = kept.accepted_rev, kept.accepted
    orders.states = dict(kept.states)
    if kept.job is None:
        return
    fields = {name: getattr(kept.job, name) for name in KeptJob.__struct_fields__}
    orders.job = Job(**fields | {"askers": list(kept.job.askers)})
    try:
        versions(orders.job.entries)
    except ValueError as error:
        orders.job.unreadable = f"kept by another release of the agent: {error}"
        # Because a worker or a catalog that comes before its end would go on with a later step.
        orders.job.step, orders.job.entries, orders.job.remove = Step.FETCH, (), ()
    if orders.job.state in _AT_RESTART:
        orders.job.state = "queued"
    steps.restored(orders.job)


def _final(orders: Orders) -> dict[str, bytes]:
    under_way = orders.job.id if orders.job is not None else None
    return {id_: payload for id_, payload in orders.states.items() if id_ != under_way}
