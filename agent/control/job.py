"""State of the orders for models: the job under way, and those that ended."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal

from agent.messages.errors import Reason
from agent.messages.payloads import JobPhase

if TYPE_CHECKING:
    from agent.control.state import Command
    from agent.messages.references import ModelVersion

Activate = Literal["changeover", "window", "now"]
CATALOG_JOB: Final = "catalog"
"""Id of the job that reads the index, and fetches what models.toml names and the store lacks."""

CANDIDATES_JOB: Final = "candidates"
"""Id of the job that looks at the aliases which lines follow, and brings what they mean."""
OWN_JOBS: Final = frozenset({CATALOG_JOB, CANDIDATES_JOB})
"""Ids that no order may have."""


class Step(Enum):
    """Step of a job; each begins when the one before it has ended."""

    FETCH = "fetch"
    """The supply process fetches and verifies the models."""
    PROVE = "prove"
    """The worker loads and proves them, one after the other, beside what serves."""
    OPEN = "open"
    """The job waits for the window in which it may activate."""
    ENTER = "enter"
    """The supply process enters the models in the catalog."""
    TURN = "turn"
    """Lines turn over to the new models at their next safe point."""
    REMOVE = "remove"
    """The supply process takes models off the catalog."""
    SETTLE = "settle"
    """Lines turn over from the removed models at their next safe point."""
    UNDO = "undo"
    """The supply process takes what a cancelled order had entered off the catalog."""


@dataclass
class Job:
    """One order for models; `orders/` assigns it."""

    id: str
    rev: int | None
    """Revision of the order; None for the catalog's own job."""
    activate: Activate = "changeover"
    entries: tuple[bytes, ...] = ()
    """JSON of each model as ordered; once they are fetched, with their files in the store."""
    index: str = ""
    """URL of a signed index, all of whose models are wanted."""
    remove: tuple[str, ...] = ()
    """Full references that leave the catalog."""
    askers: "list[Command]" = field(default_factory=list)
    """Commands that wait for the job's end."""
    step: Step = Step.FETCH
    state: JobPhase = "queued"
    reason: Reason | None = None
    detail: str | None = None
    state_since: str = ""
    """Time of the last change of `state`, as published."""
    models: tuple[str, ...] = ()
    """References of the ordered models, where they are known."""
    bytes: int = 0
    total: int = 0
    rate_kbps: float = 0.0
    eta_s: float | None = None
    spent_s: float = 0.0
    """Time that the job has taken in earlier runs of the agent."""
    begun_s: float | None = None
    """Time at which the job began in this run (monotonic)."""
    progress_s: float = 0.0
    """Time of the last progress of its downloads (monotonic)."""
    fetch_at_s: float | None = None
    """Time of the next attempt to fetch (monotonic); None: one is under way."""
    attempts: int = 0
    lost: int = 0
    """Losses of the supply process in a row, without progress in between."""
    proven: int = 0
    """Number of models that the worker has proven."""
    preload_number: int = 0
    """Number of the worker's preload in progress; 0: none."""
    prover: str = ""
    """The group whose worker proves the present model."""
    held: list[tuple[str, "ModelVersion"]] = field(default_factory=list)
    """Proven models that stay loaded, each with the line for which it is reserved."""
    prove_at_s: float | None = None
    """Time of the next attempt at a proof for which memory was lacking (monotonic); None: no attempt waits."""
    lacks_memory_since_s: float | None = None
    """Time since which memory is lacking (monotonic)."""
    unreadable: str = ""
    """Fault of an order that another release has kept and this one cannot read; it ends at once."""
    workers_killed: int = 0
    added: tuple[str, ...] = ()
    """References that the order brought to the catalog."""
    lines: tuple[str, ...] = ()
    """Lines that turn over to its models, or from those that it removes."""


@dataclass
class Orders:
    """Orders for models; `orders/` assigns it."""

    job: Job | None = None
    """The job under way."""
    accepted_rev: int | None = None
    """Revision of the newest accepted order."""
    accepted: str = ""
    """sha256 of the content of the newest accepted order."""
    states: dict[str, bytes] = field(default_factory=dict)
    """Newest payload of each job's state, by job, the newest job last."""
    is_told: bool = False
    """States from before a restart are published."""
    held: set[str] = field(default_factory=set)
    """Lines that keep their model's version until their next safe point."""
    refetch_at_s: float = 0.0
    """Missing files of the catalog are fetched again from then on (monotonic)."""
    index_at_s: float = 0.0
    """The signed index is read again from then on (monotonic)."""
    save_at_s: float = 0.0
    """The time that a job has taken is saved from then on (monotonic)."""
    counts: dict[str, int] = field(default_factory=dict)
    """Ended jobs by their last state, since the agent started."""
    bytes: int = 0
    """Bytes fetched since the agent started."""
