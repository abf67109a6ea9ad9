"""What a decision asks the application to do, in order. Topics are relative to `{root}/{device}/`."""

from dataclasses import dataclass
from typing import Literal

from agent.messages.events import Reply
from agent.messages.payloads import Ack, Alert, Switch
from agent.messages.references import ModelVersion

Publish = Literal["all", "changes", "summary"]


@dataclass(frozen=True)
class PublishState:
    """Set a retained topic to its newest true value (QoS 1)."""

    topic: str
    payload: bytes


@dataclass(frozen=True)
class PublishLive:
    """Send the heartbeat of a line: QoS 0, not retained, never kept."""

    line: str
    value: str


@dataclass(frozen=True)
class PublishEvent:
    """Send one event (QoS 1, not retained), kept until the broker has acknowledged it."""

    topic: str
    payload: Switch | Alert


@dataclass(frozen=True)
class Answer:
    """Send an ack: to `reply` where MQTT 5 asked for that, else to the `ack` topic."""

    ack: Ack
    reply: Reply | None


@dataclass(frozen=True)
class AssignLine:
    """Tell the worker which model is to serve a line; `keeps_ready`: what serves until then is right for it, too."""

    line: str
    change: int
    model: ModelVersion
    keeps_ready: bool


@dataclass(frozen=True)
class PrepareModel:
    """Tell the worker to load a model beside what serves, and to keep it for a line during `hold_s`."""

    line: str
    number: int
    model: ModelVersion
    hold_s: float


@dataclass(frozen=True)
class SetPublish:
    """Say of a stream's detections what `publish` allows; None: what its configuration says."""

    stream: str
    publish: Publish | None


@dataclass(frozen=True)
class RequeryRetained:
    """Subscribe once more to `filter_`, so that the broker shows what it retains there."""

    filter_: str


@dataclass(frozen=True)
class Reload:
    """Read configuration and catalog again; Reloaded tells how it went."""


@dataclass(frozen=True)
class DisconnectFor:
    """Leave the broker, and do not come back for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class RestartWorker:
    """End the worker; another one comes, and is given the same assignments. `detail` says why."""

    detail: str


@dataclass(frozen=True)
class SaveSnapshot:
    """Write the accepted choices to disk; they hold after a restart."""


Action = (
    PublishState
    | PublishLive
    | PublishEvent
    | Answer
    | AssignLine
    | PrepareModel
    | SetPublish
    | RequeryRetained
    | Reload
    | DisconnectFor
    | RestartWorker
    | SaveSnapshot
)
