"""What the application tells `reconcile`, beside the worker's and the broker's own messages."""

from dataclasses import dataclass

from agent.messages.payloads import StreamStatus


@dataclass(frozen=True)
class Tick:
    """Time has passed; sent at least every 0.25 s."""


@dataclass(frozen=True)
class StreamChanged:
    """A stream's status is another one now."""

    stream: str
    status: StreamStatus


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
