"""What the application tells `reconcile`, beside the worker's and the broker's own messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from agent.control.plant import Plant
from agent.messages.payloads import StreamStatus


@dataclass(frozen=True)
class Tick:
    """Time has passed; sent at least every 0.25 s."""


@dataclass(frozen=True)
class StreamChanged:
    """A stream's status is another one now, or there is news of why; `detail` says it."""

    stream: str
    status: StreamStatus
    detail: str = ""


@dataclass(frozen=True)
class Seen:
    """What is known of one stream's frames. Times are monotonic, 0 for never.

    The newest frame came at `offered_s`, one was last taken at `taken_s`, and last answered at `answered_s`. `missed`
    frames in a row were taken and got no answer, the last one at `missed_s`. `waiting`: a frame was not taken yet.
    `turn_s`: how long a model takes for one frame of each of its streams. `steady`: frames come by themselves.
    """

    offered_s: float = 0.0
    taken_s: float = 0.0
    answered_s: float = 0.0
    missed_s: float = 0.0
    missed: int = 0
    waiting: bool = False
    turn_s: float = 0.0
    steady: bool = True


@dataclass(frozen=True)
class FramesSeen:
    """How the frames of every stream fare; sent with each tick."""

    streams: Mapping[str, Seen]


@dataclass(frozen=True)
class WorkerUp:
    """A new worker said hello and has its setup; it serves nothing yet."""


@dataclass(frozen=True)
class WorkerLost:
    """The worker is gone, with every model that it held."""

    detail: str


@dataclass(frozen=True)
class WorkerHung:
    """The worker has stopped (or taken up again) making progress, and is not given up yet."""

    hung: bool


@dataclass(frozen=True)
class Stopping:
    """The agent is about to stop: nothing is ready any more, while everything still runs."""


@dataclass(frozen=True)
class Stopped:
    """Worker and cameras are gone for good."""


@dataclass(frozen=True)
class WorkerCrashed:
    """A thread of the worker ended by an exception, and was started again."""

    detail: str


@dataclass(frozen=True)
class AckRate:
    """The rate at which the broker acknowledges, in kbit/s; None while the outbox has not been behind for 5 s."""

    kbps: float | None


@dataclass(frozen=True)
class CapChanged:
    """Temperature or memory allow no variant above `max_variant` now; None lifts the cap. `value` is for people."""

    rule: Literal["temperature", "memory"]
    max_variant: str | None
    value: str | None = None


@dataclass(frozen=True)
class Reloaded:
    """Configuration and catalog were read again: the plant that they describe, or None and what is wrong.

    The lines and streams are those of before: others need a restart.
    """

    plant: Plant | None
    detail: str = ""
