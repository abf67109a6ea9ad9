"""Actions that decisions hand to the application, in order; topics are relative to `{root}/{device}/`."""

from dataclasses import dataclass

from agent.control.comparisons.comparison import Comparison
from agent.messages.canary import CanaryMode
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Alert, Switch
from agent.messages.references import ModelVersion
from agent.messages.short_lived.supply import EnterModels, FetchModels, FollowAliases
from agent.settings import DEFAULT_GROUP, LogLevel, Publish


@dataclass(frozen=True)
class PublishState:
    """Set a retained topic to its newest value (QoS 1)."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class PublishLive:
    """Publish a line's heartbeat: QoS 0, not retained, never kept in the outbox."""

    line: str
    value: str


@dataclass(frozen=True)
class PublishEvent:
    """Publish one event (QoS 1, not retained), kept until the broker acknowledges it."""

    topic: str
    payload: Switch | Alert


@dataclass(frozen=True)
class Answer:
    """Publish an ack: to the MQTT 5 response topic where one was given, else to the `ack` topic."""

    ack: Ack
    reply: Reply | None


@dataclass(frozen=True)
class AssignLine:
    """Assign a model to a line in the worker."""

    line: str
    change: int
    model: ModelVersion
    keeps_ready: bool
    """The model that serves until then also fits the product, so `ready` stays."""


@dataclass(frozen=True)
class PrepareModel:
    """Preload a model in the worker, and keep it in memory for a line for `hold_s` seconds."""

    line: str
    number: int
    model: ModelVersion
    hold_s: float
    artifact_s: float = 0.0
    """Longest wait for the model's artifact, which is made first where there is none."""
    is_candidate: bool = False
    """It is to be compared on the line."""


@dataclass(frozen=True)
class PreloadLikely:
    """Replace the list of models that a group's worker preloads in idle time, the most likely first."""

    models: tuple[ModelVersion, ...]
    gone: tuple[ModelVersion, ...] = ()
    """Models that have left the catalog."""
    group: str = DEFAULT_GROUP


@dataclass(frozen=True)
class CompareModels:
    """Have the worker compare a candidate, which it has loaded, with the model that serves a line."""

    line: str
    number: int
    candidate: ModelVersion
    mode: CanaryMode
    share: float
    memory_bytes: int
    keep_bytes: int
    keep_dir: str


@dataclass(frozen=True)
class EndComparison:
    """End a comparison in the worker; every frame after it is the serving model's."""

    line: str
    number: int


@dataclass(frozen=True)
class RecordComparison:
    """Record how a comparison of a line ended, at once, because another one may take its place in the same event."""

    line: str
    comparison: Comparison


@dataclass(frozen=True)
class SetPublish:
    """Set the publish mode of a stream's detections; None restores the configured one."""

    stream: str
    publish: Publish | None


@dataclass(frozen=True)
class RequeryRetained:
    """Subscribe to `filter_` again, so that the broker resends its retained messages."""

    filter_: str


@dataclass(frozen=True)
class Reload:
    """Read configuration and catalog again; the `Reloaded` event brings the result."""


@dataclass(frozen=True)
class ReadCatalog:
    """Read the catalog again, and nothing else; the `CatalogRead` event brings the result."""


@dataclass(frozen=True)
class AskSupply:
    """Send a request to the supply process, which is started for it."""

    message: FetchModels | FollowAliases | EnterModels


@dataclass(frozen=True)
class EndSupply:
    """End the supply process, with what it may be doing; what it has fetched stays."""


@dataclass(frozen=True)
class DisconnectFor:
    """Disconnect from the broker for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class RestartWorker:
    """Restart a group's worker, which then receives the same assignments; `detail` is the reason."""

    detail: str
    group: str = DEFAULT_GROUP


@dataclass(frozen=True)
class SetLogLevel:
    """Log at another level for `for_s` seconds."""

    level: LogLevel
    for_s: float


@dataclass(frozen=True)
class SaveSnapshot:
    """Write the accepted choices to disk, so that they survive a restart."""


Action = (
    PublishState
    | PublishLive
    | PublishEvent
    | Answer
    | AssignLine
    | PrepareModel
    | PreloadLikely
    | CompareModels
    | EndComparison
    | RecordComparison
    | SetPublish
    | RequeryRetained
    | Reload
    | ReadCatalog
    | AskSupply
    | EndSupply
    | DisconnectFor
    | RestartWorker
    | SetLogLevel
    | SaveSnapshot
)
