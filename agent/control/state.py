"""All that control knows: what was chosen, what the worker and the cameras reported, and what was said of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final

from agent.messages.errors import Reason
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Alert, Cause, Phase, StreamStatus
from agent.messages.references import ModelReference, ModelVersion

NOTHING: Final = "0"
"""The value of `ready` that names no product."""


@dataclass(frozen=True)
class Now:
    """One moment on both clocks: decisions use the monotonic one, texts for people the other."""

    monotonic_s: float
    unix_s: float

    def text(self) -> str:
        """Return UTC with milliseconds, as every payload has it."""
        moment = datetime.fromtimestamp(self.unix_s, timezone.utc)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class LineRules:
    """What the configuration says of a line; products map a PLC's code to a model reference."""

    default: ModelReference
    variant: str
    products: Mapping[str, ModelReference]
    changeover_timeout_s: float


@dataclass(frozen=True)
class Plant:
    """The configured world. `find(reference, variant)` asks the catalog; `variant` is for a reference without one."""

    base: str
    boot: str
    lines: Mapping[str, LineRules]
    streams: Mapping[str, str]
    find: Callable[[ModelReference, str], ModelVersion | None]


@dataclass(frozen=True)
class Command:
    """Who asked, and where the answer goes."""

    topic: str
    id: str | None = None
    reply: Reply | None = None


@dataclass
class Changeover:
    """A change of product or model that is under way on one line."""

    cause: Cause
    product: str | None
    from_: str | None
    to: ModelVersion
    requested: Now
    deadline_s: float
    commands: list[Command]
    workers_lost: int = 0


@dataclass
class Line:
    """One production line.

    `target` is what the worker was told, `settled` the target that it last confirmed, `active` what it reported.
    `unconfirmed` are the models that it may still flip to: told since, and not yet answered for the newest `change`.
    `fault` outlives its changeover until the next one succeeds. `waiting` are commands from before a restart.
    `ready` is the value as it was last said; `facts` and `since` are the last change of the line's state.
    """

    id: str
    rules: LineRules
    product: str | None = None
    product_cause: Cause | None = None
    operator: ModelReference | None = None
    operator_cause: Cause | None = None
    target: ModelVersion | None = None
    settled: ModelVersion | None = None
    target_cause: Cause = field(default_factory=lambda: Cause("default"))
    change: int = 0
    unconfirmed: set[ModelVersion] = field(default_factory=set)
    active: str | None = None
    blind: bool = False
    changeover: Changeover | None = None
    fault: Reason | None = None
    ready: str = NOTHING
    phase: Phase = "idle"
    waiting: list[Command] = field(default_factory=list)
    facts: tuple[object, ...] = ()
    since: str = ""
    said: dict[str, bytes] = field(default_factory=dict)

    @property
    def product_known(self) -> bool:
        """Whether the line's product is one that the configuration maps to a model."""
        return self.product is not None and self.product in self.rules.products

    @property
    def standing_fault(self) -> Reason | None:
        """What is wrong with the line's choice itself, whatever model serves."""
        is_unknown = self.product is not None and not self.product_known and self.operator is None
        return "unknown_product" if is_unknown else None


@dataclass
class State:
    """Everything; changed by `reconcile` alone, on control's thread.

    `retained` is the payload that each product topic's broker is believed to retain; `probed` the topics whose retained
    message has been seen or asked for since the link came up. `answers` keeps final acks by (topic, id), newest last.
    """

    plant: Plant
    lines: dict[str, Line]
    streams: dict[str, StreamStatus]
    worker_up: bool = False
    worker_hung: bool = False
    alerts: dict[tuple[str, str | None, str | None], Alert] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)
    probed: set[str] = field(default_factory=set)
    probe_due: set[str] = field(default_factory=set)
    answers: dict[tuple[str, str], Ack] = field(default_factory=dict)
    live_due_s: float = 0.0
    probe_due_s: float = 0.0

    @classmethod
    def of(cls, plant: Plant) -> "State":
        """Make the state at start: nothing chosen, nothing reported, no line ready."""
        return cls(
            plant=plant,
            lines={id_: Line(id_, rules) for id_, rules in plant.lines.items()},
            streams=dict.fromkeys(plant.streams, "offline"),
        )

    def streams_of(self, line: str) -> list[str]:
        """Return the ids of a line's streams."""
        return [stream for stream, owner in self.plant.streams.items() if owner == line]
