"""Progress of a stream's frames, as control follows it."""

from dataclasses import dataclass


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
