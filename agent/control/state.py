"""Control's state: choices, reports of worker and cameras, and published values."""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.control.comparisons.comparison import Comparison
from agent.control.comparisons.followed import Following, LineFollow
from agent.control.job import Orders
from agent.control.learned_order import LearnedOrder
from agent.control.plant import LineRules, Plant
from agent.control.stages import Stage
from agent.control.weekly_schedule import NO_WINDOW, Timetable, Window
from agent.control.workers import Answering, Group
from agent.messages.events import Reply
from agent.messages.payloads import Ack, Alert, Cause, NextChange, Phase, Rule, StreamStatus
from agent.messages.references import ModelReference, ModelVersion
from agent.messages.texts.utc import utc_text
from agent.settings import Publish, ScheduleRule

NOTHING: Final = "0"
"""The value of `ready` that names no product."""


@dataclass(frozen=True)
class Now:
    """One moment on both clocks: monotonic for decisions, wall clock for schedules and texts."""

    monotonic_s: float
    unix_s: float
    clock_synced: bool = True

    def text(self) -> str:
        """Format the wall clock as UTC with milliseconds, the form of every payload."""
        return utc_text(self.unix_s)


@dataclass(frozen=True)
class Command:
    """Origin of a command, and the address of its ack."""

    topic: str
    id: str | None = None
    reply: Reply | None = None
    line: str | None = None
    """The line that the command concerns, also where the topic names none."""
    user: str = ""
    """Name of the console's user; empty for a command from the broker."""

    def cause(self, rule: Rule, value: str | None) -> Cause:
        """Return the cause of what this command sets."""
        return Cause(rule, self.topic, value, user=self.user or msgspec.UNSET)


@dataclass(frozen=True)
class Cap:
    """A limit on a line's model: the largest variant that it may run."""

    rule: Rule
    """The rule that sets the cap."""
    max_variant: str
    topic: str | None = None
    value: str | None = None
    """The value that was measured or sent."""


@dataclass
class Changeover:
    """A change of product or model in progress on one line; `lines/changeover.py` assigns it."""

    cause: Cause
    product: str | None
    from_: str | None
    to: ModelVersion
    requested: Now
    deadline_s: float
    commands: list[Command]
    decided: str | None = None
    """The chosen reference, without caps."""
    words: str | None = None
    """Numbers of the decision that it carries out, for its report."""
    stage: Stage = Stage.WAITING
    workers_lost: int = 0


@dataclass
class Preparation:
    """A model that is being preloaded for a line, or held for it; `lines/preload.py` assigns it."""

    text: str
    model: ModelVersion
    number: int
    until_s: float
    """End of the hold (monotonic)."""
    deadline_s: float
    commands: list[Command]
    loading: bool = True
    workers_lost: int = 0


@dataclass
class Waiting:
    """A `prepare` command from before a restart, with the commands that wait for its ack."""

    text: str
    commands: list[Command]


@dataclass(frozen=True)
class Override:
    """A model that overrides the product's, with the cause of the override."""

    reference: ModelReference
    cause: Cause


@dataclass
class Selection:
    """Product and models that were selected for a line; `lines/selection.py` assigns it."""

    product: str | None = None
    product_cause: Cause | None = None
    operator: Override | None = None
    rollback: Override | None = None
    history: tuple[str, ...] = ()
    """References that served by decision, the newest last; a rollback returns to them."""
    order: LearnedOrder = field(default_factory=LearnedOrder)
    """The products of the line in the order in which they came."""
    instead: dict[str, str] = field(default_factory=dict)
    """Version that serves where rules find another one, because a comparison decided so; full references."""
    is_lost: bool = False
    """The product was lost in a restart, because the newest choice could not be written to disk."""

    @property
    def was_taken_back(self) -> bool:
        """True where the rollback in force is automatic, after a model failed."""
        return self.rollback is not None and self.rollback.cause.topic is None


@dataclass
class LineSchedule:
    """The schedule of one line; `inputs/schedule.py` assigns it."""

    window: Window = NO_WINDOW
    """The schedule rules that apply now."""
    next: NextChange | None = None
    """The next change, as published."""
    next_change: tuple[float, str] | None = None
    """Time (Unix) and model of the next change."""
    next_basis: tuple[object, ...] = ()
    """Inputs that `next_change` was computed from."""


@dataclass
class Limits:
    """Limits on a line's variant and messages; `inputs/bandwidth.py` assigns them."""

    caps: tuple[Cap, ...] = ()
    """Limits on the variant, from bandwidth, temperature and memory."""
    bandwidth_on: frozenset[int] = frozenset()
    """Indexes of the bandwidth rules that apply now."""
    publish: Publish | None = None
    """The publish mode that a bandwidth rule sets; None: the configured one."""


@dataclass
class Preloads:
    """Models preloaded for a line; `lines/preload.py` assigns them."""

    announced: NextChange | None = None
    """The schedule change that was preloaded last."""
    preparations: list[Preparation] = field(default_factory=list)
    to_prepare: list[Waiting] = field(default_factory=list)
    """`prepare` commands from before a restart, until a worker is up."""


@dataclass
class Assignment:
    """The model that the worker shall serve on a line; `lines/changeover.py` assigns it."""

    target: ModelVersion | None = None
    """The model assigned to the worker."""
    cause: Cause = field(default_factory=lambda: Cause("default"))
    change: int = 0
    """Number of the newest assignment."""
    unconfirmed: set[ModelVersion] = field(default_factory=set)
    """Models assigned since the last confirmation, to which the worker may still switch."""
    settled: ModelVersion | None = None
    """The last target that the worker confirmed."""
    chosen: ModelVersion | None = None
    """Model of the last decision; rules act only where it changes, so a failure is not retried at once."""
    degraded: bool = False
    """A cap allows no variant in the catalog, so the smallest one is used."""
    failed: bool = False
    """The last changeover failed; stays True until the next one succeeds."""
    dwell_until_s: float = 0.0
    """Rules may not change the model before then (monotonic)."""
    trial_until_s: float = 0.0
    """Until then (monotonic) a failing model is rolled back automatically."""
    retry_at_s: float = 0.0
    """Time of the next retry where no model serves (monotonic)."""
    waiting: list[Command] = field(default_factory=list)
    """Commands from before a restart, until a worker is up."""


@dataclass
class Serving:
    """The model that serves a line, as the worker reports it; `lines/serving.py` assigns it."""

    model: str | None = None
    is_taken_off: bool = False
    """The model was taken off to make room for a load, and may still answer frames."""
    blind_since_s: float | None = None
    """Start of the time without a model (monotonic); None: it has one, or never had."""
    left_by_cap: tuple[ModelReference, str] | None = None
    """The product's reference, and the variant that a cap left of it, until another one serves."""


@dataclass
class Published:
    """Last published values of a line; `lines/report.py` assigns them."""

    ready: str = NOTHING
    phase: Phase = "idle"
    basis: tuple[object, ...] = ()
    """Inputs that the `state` payload was computed from at its last change."""
    since: str = ""
    """Time of the last change of `state`, as published."""
    payloads: dict[str, bytes] = field(default_factory=dict)
    """Last published payload of each topic."""


@dataclass
class Line:
    """State of one production line; each part is assigned by one module (tests/architecture/test_state_owners.py)."""

    id: str
    rules: LineRules
    selection: Selection = field(default_factory=Selection)
    schedule: LineSchedule = field(default_factory=LineSchedule)
    limits: Limits = field(default_factory=Limits)
    preloads: Preloads = field(default_factory=Preloads)
    assignment: Assignment = field(default_factory=Assignment)
    changeover: Changeover | None = None
    serving: Serving = field(default_factory=Serving)
    published: Published = field(default_factory=Published)
    comparison: Comparison | None = None
    """The running or last comparison of two versions."""
    followed: LineFollow = field(default_factory=LineFollow)

    @property
    def own(self) -> ModelReference | None:
        """The configured reference of the line's product; None without a known product."""
        product = self.selection.product
        return self.rules.products.get(product) if product is not None else None

    @property
    def is_selection_faulty(self) -> bool:
        """True for an unknown product, and for an automatic rollback to another model than the product's."""
        selection, own = self.selection, self.own
        if selection.product is None or own is None:
            return selection.product is not None
        if selection.operator is not None or selection.rollback is None or not selection.was_taken_back:
            return False
        other = selection.rollback.reference
        return other.name != own.name or own.variant not in {None, other.variant}

    @property
    def is_faulty(self) -> bool:
        """True after a failed changeover or with a faulty selection."""
        return self.assignment.failed or self.is_selection_faulty


@dataclass
class Scheduling:
    """The schedule in force, and the wall clock that it follows."""

    rules: tuple[ScheduleRule, ...] = ()
    text: str | None = None
    """The list that `schedule/set` brought; None: the configured rules."""
    timetables: dict[str, Timetable] = field(default_factory=dict)
    offset_s: float = 0.0
    """Wall clock minus monotonic clock, at the last look."""
    valid_until_s: float = 0.0
    """The timetables are computed again from then on (Unix time)."""
    is_running: bool = False
    """The wall clock is trusted."""
    waits_until_s: float | None = None
    """The wall clock is trusted from then on even unsynchronised (monotonic)."""


@dataclass
class Bandwidth:
    """Bandwidth of the broker link."""

    kbps: float | None = None
    """The value in kbit/s that a message set; None: `auto`, which uses the measured one."""
    measured_kbps: float | None = None
    """The agent's own measurement in kbit/s; None: unknown."""
    topic: str | None = None


@dataclass
class Identity:
    """Signs of another device with the same id; times are monotonic."""

    takeovers_s: list[float] = field(default_factory=list)
    """Times of recent session takeovers."""
    links: int = 0
    """Number of connections to the broker since the agent started."""
    suspected_until_s: float | None = None
    """End of the suspicion, unless it is confirmed again; None: there is no suspicion."""
    boots: tuple[str, ...] = ()
    """Earlier boot ids of this device."""


@dataclass
class State:
    """Everything that control knows; changed under `reconcile` alone, on control's thread."""

    plant: Plant
    lines: dict[str, Line]
    streams: dict[str, StreamStatus]
    groups: dict[str, Group]
    answering: dict[str, Answering] = field(default_factory=dict)
    """Frame progress by stream, as of `looked_s`."""
    looked_s: float = 0.0
    """Time of the last look at frame progress (monotonic)."""
    crash_calm_s: float | None = None
    """End of `thread_crashed` (monotonic), unless a thread crashes again before."""
    scheduling: Scheduling = field(default_factory=Scheduling)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    identity: Identity = field(default_factory=Identity)
    stress: dict[Rule, Cap] = field(default_factory=dict)
    """Caps by temperature and memory, for all lines."""
    preparations: int = 0
    """Number of the newest preload."""
    reloading: list[Command] = field(default_factory=list)
    """Commands that wait for a reload to end."""
    orders: Orders = field(default_factory=Orders)
    following: Following = field(default_factory=Following)
    alerts: dict[tuple[str, str | None, str | None], Alert] = field(default_factory=dict)
    """Alerts that are on, by (code, line, stream)."""
    retained: dict[str, bytes] = field(default_factory=dict)
    """Payload that the broker is believed to retain, by topic."""
    probed: set[str] = field(default_factory=set)
    """Topics whose retained message was received or requested since the link came up."""
    probe_due: set[str] = field(default_factory=set)
    """Filters whose retained messages are to be requested next."""
    answers: dict[tuple[str, str | None, str], Ack] = field(default_factory=dict)
    """Final acks by (topic, line, id), the newest last."""
    unsent_acks: list[tuple[Ack, Reply | None]] = field(default_factory=list)
    """Final acks that follow the current write to disk."""
    acks_to_resend: list[tuple[Ack, Reply | None]] = field(default_factory=list)
    """Final acks that a write before the restart had recorded as unsent."""
    unsaved: bool = False
    """A change that must survive a restart is not on disk, and may wait for a second."""
    save_due_s: float = 0.0
    stopping: bool = False
    """The agent stops: no line is ready any more."""
    live_due_s: float = 0.0
    cameras_due_s: float | None = None
    """Streams still offline then raise an alert (monotonic)."""
    probe_due_s: float = 0.0

    @classmethod
    def of(cls, plant: Plant) -> "State":
        """Return the initial state: nothing chosen, nothing reported, no line ready."""
        return cls(
            plant=plant,
            lines={id_: Line(id_, rules) for id_, rules in plant.lines.items()},
            streams=dict.fromkeys(plant.streams, "offline"),
            groups={group: Group() for group in plant.groups},
            scheduling=Scheduling(rules=plant.schedule),
        )

    def group_of(self, line: Line) -> Group:
        """Return the group whose worker serves a line."""
        return self.groups[line.rules.group]

    def lines_of(self, group: str) -> list[Line]:
        """Return the lines of a group."""
        return [line for line in self.lines.values() if line.rules.group == group]

    def streams_of(self, line: str) -> list[str]:
        """Return the ids of a line's streams."""
        return [stream for stream, owner in self.plant.streams.items() if owner == line]
