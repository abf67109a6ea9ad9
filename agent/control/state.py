"""All that control knows: what was chosen, what the worker and the cameras reported, and what was said of it."""

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Final

from agent.control.plant import LineRules, Plant
from agent.control.weekly_schedule import NO_WINDOW, Timetable, Window
from agent.messages.errors import Reason
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Alert, Cause, NextChange, Phase, Rule, StreamStatus
from agent.messages.references import ModelReference, ModelVersion
from agent.settings import ScheduleRule

NOTHING: Final = "0"
"""The value of `ready` that names no product."""


def utc_text(unix_s: float) -> str:
    """Return UTC with milliseconds, as every payload has it."""
    moment = datetime.fromtimestamp(unix_s, timezone.utc)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class Now:
    """One moment on both clocks: decisions use the monotonic one; schedules and texts for people the other."""

    monotonic_s: float
    unix_s: float
    clock_synced: bool = True

    def text(self) -> str:
        """Return UTC with milliseconds, as every payload has it."""
        return utc_text(self.unix_s)


@dataclass(frozen=True)
class Command:
    """Who asked, and where the answer goes. `line` is the one that it is about, also where the topic does not say."""

    topic: str
    id: str | None = None
    reply: Reply | None = None
    line: str | None = None


@dataclass(frozen=True)
class Cap:
    """The largest variant allowed; `rule` says what holds it down, `value` is what was measured or sent."""

    rule: Rule
    max_variant: str
    topic: str | None = None
    value: str | None = None


@dataclass
class Changeover:
    """A change of product or model that is under way on one line; `decided` is the choice without caps.

    `preparing`: the model's checkpoint is being prepared, before it can be loaded.
    """

    cause: Cause
    product: str | None
    from_: str | None
    to: ModelVersion
    requested: Now
    deadline_s: float
    commands: list[Command]
    decided: str | None = None
    workers_lost: int = 0
    preparing: bool = False


@dataclass
class Preparation:
    """A model that is being loaded ahead for a line, or is kept for it until `until_s` (monotonic)."""

    text: str
    model: ModelVersion
    number: int
    until_s: float
    deadline_s: float
    commands: list[Command]
    loading: bool = True
    workers_lost: int = 0


@dataclass
class Waiting:
    """A `prepare` from before a restart, with those who wait for its answer."""

    text: str
    commands: list[Command]


@dataclass
class Line:
    """One production line.

    `target` is what the worker was told, `settled` the target that it last confirmed, `active` what it reported.
    `chosen` is the model of the last decision: rules act only where it changes, so that a failure is not tried again.
    `unconfirmed` are the models that it may still flip to: told since, and not yet answered for the newest `change`.
    `fault` outlives its changeover until the next one succeeds. `waiting` are commands from before a restart.
    `ready` is the value as it was last said; `facts` and `since` are the last change of the line's state.
    `next` is the change that the schedule will make, worked out from `next_basis`; `announced` the one prepared for.
    `history` are references that served by decision, the newest last: what a rollback returns to.
    `choice_lost`: its product was not known after a restart, because the disk took nothing before, and is not yet.
    `left_by_cap` is the variant that a cap left of the reference beside it, while nothing has replaced it.
    Until `on_trial_until_s` (monotonic) a model that fails is taken back to the one before. The line has lost its model
    since `blind_since_s` (None: it has one, or never had); where nothing serves it is asked for again at `insist_at_s`.
    """

    id: str
    rules: LineRules
    product: str | None = None
    product_cause: Cause | None = None
    operator: ModelReference | None = None
    operator_cause: Cause | None = None
    rollback: ModelReference | None = None
    rollback_cause: Cause | None = None
    history: list[str] = field(default_factory=list)
    choice_lost: bool = False
    left_by_cap: tuple[ModelReference, str] | None = None
    on_trial_until_s: float = 0.0
    window: Window = NO_WINDOW
    caps: tuple[Cap, ...] = ()
    bandwidth_on: frozenset[int] = frozenset()
    publish: str | None = None
    dwell_until_s: float = 0.0
    chosen: ModelVersion | None = None
    degraded: bool = False
    next: NextChange | None = None
    next_change: tuple[float, str] | None = None
    next_basis: tuple[object, ...] = ()
    announced: NextChange | None = None
    preparations: list[Preparation] = field(default_factory=list)
    to_prepare: list[Waiting] = field(default_factory=list)
    target: ModelVersion | None = None
    settled: ModelVersion | None = None
    target_cause: Cause = field(default_factory=lambda: Cause("default"))
    change: int = 0
    unconfirmed: set[ModelVersion] = field(default_factory=set)
    active: str | None = None
    blind: bool = False
    blind_since_s: float | None = None
    insist_at_s: float = 0.0
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
        if self.product is None:
            return None
        if not self.product_known:
            return "unknown_product"
        if self.operator is not None:
            return None
        return "proof_failed" if self.was_taken_back and self._is_rolled_back_to_another else None

    @property
    def was_taken_back(self) -> bool:
        """Whether the rollback in force is the agent's own: its model failed, and nobody asked for it."""
        return self.rollback is not None and self.rollback_cause is not None and self.rollback_cause.topic is None

    @property
    def _is_rolled_back_to_another(self) -> bool:
        """Whether the rollback names another model than the product's, or another variant than the one it names."""
        if self.rollback is None or self.product is None:
            return False
        own = self.rules.products[self.product]
        return self.rollback.name != own.name or own.variant not in {None, self.rollback.variant}


@dataclass
class Scheduling:
    """The rules in force, the wall clock that they were last read by, and whether that clock is believed.

    `text` is what `schedule/set` sent; None: the configuration's own. `offset_s` is wall clock minus monotonic clock.
    """

    rules: tuple[ScheduleRule, ...] = ()
    text: str | None = None
    timetables: dict[str, Timetable] = field(default_factory=dict)
    offset_s: float = 0.0
    valid_until_s: float = 0.0
    is_running: bool = False
    waits_until_s: float | None = None


@dataclass
class Bandwidth:
    """`kbps` as somebody set it (None: `auto`), and the agent's own measure (None: unknown)."""

    kbps: float | None = None
    measured_kbps: float | None = None
    topic: str | None = None


@dataclass
class Identity:
    """Whether another device seems to use this one's id. Times are monotonic; `boots` are this device's own."""

    takeovers_s: list[float] = field(default_factory=list)
    links: int = 0
    suspected_until_s: float | None = None
    boots: tuple[str, ...] = ()


@dataclass
class Answering:
    """Whether one stream's frames are answered; times are monotonic.

    A frame has waited for its answer since `owed_since_s`; `unanswered_since_s` is when that was too long. The model
    `served_by` serves since `served_since_s`. `restarts` new workers were started for it, until all was well for long.
    """

    owed_since_s: float | None = None
    unanswered_since_s: float | None = None
    served_by: str | None = None
    served_since_s: float = 0.0
    restarts: int = 0
    well_since_s: float = 0.0


@dataclass
class State:
    """Everything; changed by `reconcile` alone, on control's thread.

    `retained` is the payload that each topic's broker is believed to retain; `probed` the topics whose retained
    message has been seen or asked for since the link came up. `answers` keeps final acks by (topic, line, id), newest
    last; `telling` are those that the last write to disk was for, `retelling` those of the write before a restart.
    `unsaved`: something that has to hold after a restart is not yet on disk, and may wait for a second. `stress` are
    caps by temperature and memory, for all lines. `worker_calm_s` (monotonic): when `worker_hung` ends, unless it hangs
    again before; `crash_calm_s` is the same for `thread_crashed`. `answering` is by stream, as it was at `looked_s`
    (monotonic). `stopping`: nothing is ready any more. From `cameras_due_s` (monotonic) on, a camera that has not come
    is missed.
    """

    plant: Plant
    lines: dict[str, Line]
    streams: dict[str, StreamStatus]
    worker_up: bool = False
    worker_hung: bool = False
    worker_calm_s: float | None = None
    answering: dict[str, Answering] = field(default_factory=dict)
    looked_s: float = 0.0
    crash_calm_s: float | None = None
    scheduling: Scheduling = field(default_factory=Scheduling)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    identity: Identity = field(default_factory=Identity)
    stress: dict[Rule, Cap] = field(default_factory=dict)
    preparations: int = 0
    reloading: list[Command] = field(default_factory=list)
    alerts: dict[tuple[str, str | None, str | None], Alert] = field(default_factory=dict)
    retained: dict[str, bytes] = field(default_factory=dict)
    probed: set[str] = field(default_factory=set)
    probe_due: set[str] = field(default_factory=set)
    answers: dict[tuple[str, str | None, str], Ack] = field(default_factory=dict)
    telling: list[tuple[Ack, Reply | None]] = field(default_factory=list)
    retelling: list[tuple[Ack, Reply | None]] = field(default_factory=list)
    unsaved: bool = False
    save_due_s: float = 0.0
    stopping: bool = False
    live_due_s: float = 0.0
    cameras_due_s: float | None = None
    probe_due_s: float = 0.0

    @classmethod
    def of(cls, plant: Plant) -> "State":
        """Make the state at start: nothing chosen, nothing reported, no line ready."""
        return cls(
            plant=plant,
            lines={id_: Line(id_, rules) for id_, rules in plant.lines.items()},
            streams=dict.fromkeys(plant.streams, "offline"),
            scheduling=Scheduling(rules=plant.schedule),
        )

    def streams_of(self, line: str) -> list[str]:
        """Return the ids of a line's streams."""
        return [stream for stream, owner in self.plant.streams.items() if owner == line]
