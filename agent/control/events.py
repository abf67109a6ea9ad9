"""Events from the application to `reconcile`, beside the messages of worker and broker."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.control.plant import Plant
from agent.messages.payloads import StreamStatus
from agent.settings import DEFAULT_GROUP


@dataclass(frozen=True)
class Tick:
    """Time has passed; sent at least every 0.25 s."""


@dataclass(frozen=True)
class StreamChanged:
    """A stream's status changed, or its reason did; `detail` is that reason."""

    stream: str
    status: StreamStatus
    detail: str = ""


@dataclass(frozen=True)
class Seen:
    """Frame timing of one stream; times are in seconds, monotonic, and 0 for never."""

    offered_s: float = 0.0
    """Time at which the newest frame arrived."""
    taken_s: float = 0.0
    """Time at which the worker last took a frame."""
    answered_s: float = 0.0
    """Time at which the worker last answered a frame with its detections."""
    missed_s: float = 0.0
    """Time at which a frame was last taken but not answered."""
    missed: int = 0
    """Frames in a row that were taken and not answered."""
    waiting: bool = False
    """True while a frame waits to be taken."""
    infer_s: float = 0.0
    """Usual time of one inference of the serving model."""
    turn_s: float = 0.0
    """Time that a model needs for one frame of each of its streams."""
    steady: bool = True
    """Frames arrive by themselves, without a trigger."""


@dataclass(frozen=True)
class FramesSeen:
    """Frame timing of every stream; sent with each tick."""

    streams: Mapping[str, Seen]


@dataclass(frozen=True)
class WorkerUp:
    """A new worker has received its setup; it serves nothing yet."""

    group: str = DEFAULT_GROUP


@dataclass(frozen=True)
class WorkerLost:
    """The worker of a group ended, and every model in it is gone."""

    detail: str
    group: str = DEFAULT_GROUP


@dataclass(frozen=True)
class WorkerHung:
    """The worker of a group stopped making progress, or resumed; it is not restarted yet."""

    hung: bool
    group: str = DEFAULT_GROUP


@dataclass(frozen=True)
class Stopping:
    """The agent is about to stop: `ready` is cleared while everything still runs."""


@dataclass(frozen=True)
class Stopped:
    """Worker and cameras have ended for good."""


@dataclass(frozen=True)
class WorkerCrashed:
    """A worker thread ended by an exception and was restarted."""

    detail: str


@dataclass(frozen=True)
class AckRate:
    """Rate of broker acknowledgements in kbit/s; None unless messages have waited for the link for 5 s."""

    kbps: float | None


@dataclass(frozen=True)
class CapChanged:
    """The largest allowed variant by temperature or memory changed; a `max_variant` of None lifts the limit."""

    rule: Literal["temperature", "memory"]
    max_variant: str | None
    value: str | None = None
    """The measured value, for people."""


@dataclass(frozen=True)
class Reloaded:
    """Configuration and catalog were read again; lines and streams never change by a reload."""

    plant: Plant | None
    """The new plant, or None where the configuration is invalid."""
    detail: str = ""
    """The mistake where `plant` is None."""


@dataclass(frozen=True)
class CatalogRead:
    """The catalog was read again after an order changed it, or its files were fetched."""

    plant: Plant | None
    """The new plant, or None where the catalog is invalid."""
    detail: str = ""
    """The mistake where `plant` is None."""


@dataclass(frozen=True)
class ModelsLoading:
    """The worker's loads, as of its last report; sent while an order is proven."""

    references: tuple[str, ...]


@dataclass(frozen=True)
class SupplyLost:
    """The supply process ended; it is started again, and gets the same request."""

    detail: str
    is_hung: bool = False
