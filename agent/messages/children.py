"""What control and its children (camera processes, the worker) say to each other, over `processes.channel`.

Each message is a tagged msgspec Struct, so a channel decodes to exactly these types and to nothing else: a worker that
runs somebody's weights cannot make control run anything.
"""

from typing import Literal

import msgspec

from agent.messages.errors import Reason
from agent.messages.payloads import CacheDecision
from agent.messages.references import ModelVersion

Residency = Literal["resident", "weights", "cold"]
Order = Literal["make-before-break", "break-before-make"]


class Message(msgspec.Struct, frozen=True, tag=True):
    """The root of all messages."""


class SlotDescriptors(msgspec.Struct, frozen=True):
    """File descriptors of one stream's frame slot, valid in the process that the message is sent to."""

    memory: int
    offered: int
    taken: int


# ---- control -> camera process


class CameraSetup(Message, frozen=True):
    """The first message to a camera process.

    `fps` 0: unpaced. `wait_for_reader`: frames are kept until taken. `triggered`: silence is no fault.
    """

    stream: str
    source: str
    fps: float
    loop: bool
    wait_for_reader: bool
    slot: SlotDescriptors
    triggered: bool = False
    open_s: float = 10.0
    read_s: float = 3.0


# ---- camera process -> control


class CameraOpened(Message, frozen=True):
    """The source answered; frames follow. `detail` names what was opened."""

    stream: str
    width: int
    height: int
    fps: float
    detail: str


class CameraFailed(Message, frozen=True):
    """The source could not be opened, or broke; the process tries again by itself, with back-off."""

    stream: str
    detail: str


class CameraEnded(Message, frozen=True):
    """A file or folder came to its end, without `loop`; the process stays until it is stopped."""

    stream: str


# ---- control -> worker


class WorkerStream(msgspec.Struct, frozen=True):
    """One stream that the worker serves."""

    id: str
    line: str
    slot: SlotDescriptors


class WorkerSetup(Message, frozen=True):
    """The first message to a worker. `budget_bytes`: what resident models may take together.

    `prepared_max_bytes`: what prepared artifacts may take on the disk, under `cache_dir`.
    """

    streams: tuple[WorkerStream, ...]
    compute: str
    budget_bytes: int
    cache_dir: str
    load_timeout_s: float
    prepared_max_bytes: int = 2 << 30


class Assign(Message, frozen=True):
    """Bring `model` onto every stream of `line`. The greatest `change` wins; an older one in progress is superseded."""

    line: str
    change: int
    model: ModelVersion
    keeps_ready: bool = False  # what serves meanwhile is right for the product, too, so its frames count


class Prepare(Message, frozen=True):
    """Load `model` beside what serves, and keep it for `line`: a changeover to it is announced.

    The worker loads it as a standby (proven like any other; never break-before-make, never evicting what is active,
    pinned or reserved), reserves it for `line` during `hold_s` seconds from its arrival, and answers once with Prepared
    or PrepareFailed of the same `number`. Of a model that is resident it only reserves, and answers at once. The same
    model again sets a new end of the reservation; another model is one more reservation beside it. An Assign of the
    model to the line ends its reservation, and so does the end of `hold_s`; the model may then be evicted. An Assign
    goes before every Prepare that still waits.
    """

    line: str
    number: int
    model: ModelVersion
    hold_s: float


# ---- worker -> control


class SwapReport(msgspec.Struct, frozen=True):
    """How a swap went; times in ms, `frames_lost` as the contract defines it, summed over the line's streams."""

    residency: Residency
    order: Order
    load_ms: float
    warmup_ms: float
    blind_ms: float
    frames_lost: int


class Breaking(Message, frozen=True):
    """Sent before a break-before-make swap takes the line's model away: the line is blind from here to Swapped."""

    line: str
    change: int


class Swapped(Message, frozen=True):
    """`model` is active and proven on every stream of `line`.

    Order: in the pipe after the last detections of the model before, and before the first of this one.
    """

    line: str
    change: int
    model: str
    report: SwapReport


class SwapFailed(Message, frozen=True):
    """The swap did not happen; `active` is what serves the line now (None: nothing)."""

    line: str
    change: int
    model: str
    active: str | None
    reason: Reason
    detail: str


class Prepared(Message, frozen=True):
    """`model` is resident and proven, and reserved for `line`."""

    line: str
    number: int
    model: str


class PrepareFailed(Message, frozen=True):
    """`model` could not be made resident beside what serves; nothing of it is kept."""

    line: str
    number: int
    model: str
    reason: Reason
    detail: str


class StageTimes(msgspec.Struct, frozen=True, array_like=True):
    """Where a frame's time went, in ms: to the slot; in it, and for the model; onto its input; the model; to JSON."""

    capture: float = 0.0
    wait: float = 0.0
    preprocess: float = 0.0
    infer: float = 0.0
    decode: float = 0.0


class Detections(Message, frozen=True):
    """One inferred frame.

    `model` is the reference of the model that inferred it. `captured_ns` is CLOCK_MONOTONIC. `tail` is the part of the
    contract's JSON that only the worker knows, finished: `"model":...,"frame":...,"captured_at":...,"width":...,
    "height":...,"objects":[...]}`. Control puts its own part before it. `counts` are pairs (label, objects).
    """

    stream: str
    model: str
    frame: int
    captured_ns: int
    tail: bytes
    counts: tuple[tuple[str, int], ...]
    stages_ms: StageTimes = StageTimes()


class InferenceFailed(Message, frozen=True):
    """A frame could not be inferred (`detail` says why); `in_a_row` counts `model`'s since the last good one."""

    stream: str
    model: str
    in_a_row: int
    detail: str


class ResidentModel(msgspec.Struct, frozen=True):
    """One line of the `cache` topic; `reserved_for` names lines, with a comma between them."""

    model: str
    bytes: int
    state: str
    last_use: str
    reserved_for: str | None = None


class CacheState(Message, frozen=True):
    """The worker's ledger, sent when it changes."""

    budget_bytes: int
    used_bytes: int
    models: tuple[ResidentModel, ...]


class CacheDecided(Message, frozen=True):
    """A model was evicted, or refused for want of memory."""

    decision: CacheDecision


class MemoryKept(Message, frozen=True):
    """Bytes of released models that did not come back, and stay charged; sent when they change, 0 when all are back."""

    bytes: int
    models: tuple[str, ...]


class ThreadCrashed(Message, frozen=True):
    """A thread of the child ended by an exception; `detail` says which. The child starts its own threads again."""

    thread: str
    detail: str


class Log(Message, frozen=True):
    """One line worth an operator's attention: `level` is a name of the logging module."""

    level: str
    text: str


# ---- every child -> control


class Hello(Message, frozen=True):
    """A child is up and reads its pipe. `versions` names the libraries that it runs."""

    pid: int
    versions: dict[str, str]


class StreamProgress(msgspec.Struct, frozen=True, array_like=True):
    """How a stream's frames fare in the worker. Times are CLOCK_MONOTONIC, 0 for never.

    `taken_ns` and `answered_ns`: when a frame was last taken, and last answered. `missed` frames in a row were taken
    and got no answer (failed, or torn), the last of them at `missed_ns`.
    """

    stream: str
    taken_ns: int
    answered_ns: int
    missed_ns: int
    missed: int


class Beat(Message, frozen=True):
    """Sent every 0.25 s by a thread of the child.

    `busy_since_ns`: when the oldest call still under way (a read, an inference) began, CLOCK_MONOTONIC; 0 for none.
    `streams`: of the worker, how its streams' frames fare.
    """

    busy_since_ns: int = 0
    streams: tuple[StreamProgress, ...] = ()


CameraMessage = CameraOpened | CameraFailed | CameraEnded | Hello | Beat | Log
WorkerMessage = (
    Breaking
    | Swapped
    | SwapFailed
    | Prepared
    | PrepareFailed
    | Detections
    | InferenceFailed
    | CacheState
    | CacheDecided
    | MemoryKept
    | ThreadCrashed
    | Hello
    | Beat
    | Log
)
ToCamera = CameraSetup
ToWorker = WorkerSetup | Assign | Prepare
