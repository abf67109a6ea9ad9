"""Messages between the control process and the web process, over `processes.channel`."""

from typing import Literal

import msgspec

from agent.messages.children import Beat, Hello, Log, LogSetup, Message
from agent.messages.descriptors import RequestLink
from agent.messages.errors import Reason
from agent.messages.web.told import MetaWeb


class WebClient(msgspec.Struct, frozen=True):
    """A client that may send inference requests; the web process reads the token's file."""

    name: str
    token_file: str
    """Path; empty: `subject` proves the client."""
    subject: str
    models: tuple[str, ...]
    """Patterns of names, or of NAME:VARIANT."""
    requests_per_s: float
    max_inflight: int
    group: str


class PictureEnd(msgspec.Struct, frozen=True):
    """The web process's end of one stream's picture link; see `agent.processes.slots.picture_link`."""

    stream: str
    descriptor: int


# ---- control -> web


class WebSetup(Message, frozen=True):
    """First message to a web process."""

    device: str
    base: str
    """Prefix of the device's topics."""
    state_dir: str
    bind: str
    grpc_bind: str
    cert_file: str
    key_file: str
    client_ca_file: str
    console: bool
    gateway: bool
    clients: tuple[WebClient, ...]
    links: tuple[RequestLink, ...]
    pictures: tuple[PictureEnd, ...] = ()


class Document(msgspec.Struct, frozen=True):
    """One payload as it is published over MQTT; `topic` is relative to the device."""

    topic: str
    payload: bytes
    is_state: bool
    """A retained value, which replaces the one before; else an event or a reading."""


class Documents(Message, frozen=True):
    """Documents in the order in which they were published; answered with DocumentsTaken before the next are sent."""

    items: tuple[Document, ...]
    dropped: int
    """Events and readings that were not sent since the start, because the web process was too slow."""


class CommandAnswered(Message, frozen=True):
    """An ack of the OperatorCommand `number`, as it would be published: JSON with `result`, `reason`, `detail`."""

    number: int
    ack: bytes


class ModelRefused(Message, frozen=True):
    """The AskModel `number` has no model, or nobody to load it."""

    number: int
    reason: Reason
    detail: str


class WorkerGone(Message, frozen=True):
    """The worker of `group` is lost; what it had is unanswered."""

    group: str


# ---- web -> control


class DocumentsTaken(Message, frozen=True):
    """The last Documents are handled."""


class Serving(Message, frozen=True):
    """The addresses that are served; `detail` says what cannot be served, and is empty where everything is."""

    port: int
    """TCP port of console and HTTP requests; 0: not served."""
    grpc_port: int
    detail: str
    walls: MetaWeb
    """The walls of the web process."""


class OperatorCommand(Message, frozen=True):
    """A person's command from the console, handled like one from the broker; answered with CommandAnswered."""

    number: int
    user: str
    topic: str
    """Relative to the device, such as `line/line-1/model/set`."""
    payload: bytes


class Watching(Message, frozen=True):
    """The streams that people look at; their detections are sent as documents until the next such message."""

    streams: tuple[str, ...]


class AskModel(Message, frozen=True):
    """Has a group's worker load a model for requests and keep it for `hold_s`; it answers with the same `number`."""

    number: int
    reference: str
    """Full reference NAME:VARIANT@VERSION."""
    hold_s: float
    group: str = "default"


Outcome = Literal[
    "ok", "unauthorized", "not_found", "invalid", "too_large", "media", "unsupported", "limited", "busy", "failed"
]
"""End of a request, as the metrics count it."""


class RequestCount(msgspec.Struct, frozen=True):
    """Requests of one client for one model with one outcome, since the web process started."""

    client: str
    """Empty: nobody known."""
    model: str
    """Full reference; empty where none was reached."""
    outcome: Outcome
    count: int
    seconds: float
    """Time that they took together."""


class RequestsCounted(Message, frozen=True):
    """All counts that changed since the last message."""

    counts: tuple[RequestCount, ...]


WebMessage = DocumentsTaken | Serving | OperatorCommand | Watching | AskModel | RequestsCounted | Hello | Beat | Log
ToWeb = WebSetup | Documents | CommandAnswered | ModelRefused | WorkerGone | LogSetup
