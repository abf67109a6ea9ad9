"""The workers as control knows them: the groups that they serve, what they preload, and how frames progress."""

from dataclasses import dataclass, field

from agent.messages.references import ModelVersion


@dataclass
class Answering:
    """Progress of one stream's frames; times are monotonic."""

    owed_since_s: float | None = None
    """A frame has waited for its answer since then."""
    unanswered_since_s: float | None = None
    """The allowed time for an answer ran out then."""
    served_by: str | None = None
    """The model that serves the stream."""
    served_since_s: float = 0.0
    """Time at which the model in `served_by` began to serve."""
    restarts: int = 0
    """Worker restarts for this stream, counted from 0 again once its frames were answered for 60 s."""
    well_since_s: float = 0.0
    """Time at which frames were answered again after a fault."""


@dataclass
class Likely:
    """The models that a group's worker preloads in idle time; `lines/likely_models.py` assigns them."""

    sent: tuple[ModelVersion, ...] | None = None
    """The list sent last, the most likely first; None: this worker has none yet."""
    catalog: tuple[ModelVersion, ...] = ()
    """The versions of the catalog at that time."""
    basis: tuple[object, ...] = ()
    """Inputs that the list was computed from."""
    sent_s: float = 0.0
    """Time at which this worker got its first list (monotonic)."""
    losses: int = 0
    """Workers lost in a row, each within an hour of its first list."""
    paused_until_s: float = 0.0
    """No list is sent before then (monotonic), because a preload may have killed the last worker."""


@dataclass
class Group:
    """A group of lines, and its worker as the application reports it; `lines/worker.py` assigns it."""

    is_up: bool = False
    """The worker runs."""
    is_hung: bool = False
    calm_s: float | None = None
    """End of `is_hung` (monotonic), unless the worker hangs again before."""
    likely: Likely = field(default_factory=Likely)
    troubles: dict[str, str] = field(default_factory=dict)
    """Alerts about the worker of a group without lines: the detail by code."""
