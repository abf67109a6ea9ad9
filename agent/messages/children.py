"""Messages between the control process and its children (cameras, worker), over `processes.channel`.

Each message is a tagged Struct, and a channel decodes no others, so that a worker taken over runs no code in control.
"""

from typing import Literal

import msgspec

from agent.messages.descriptors import RequestLink, SlotDescriptors
from agent.messages.errors import Reason
from agent.messages.payloads import CacheDecision, CachePool, ModelProcessor, Pool
from agent.messages.references import ModelReading, ModelVersion

Residency = Literal["resident", "weights", "cold"]
Order = Literal["make-before-break", "break-before-make"]


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of all messages."""


# ---- control -> every child


class LogSetup(Message, frozen=True):
    """The level to log at; sent to a child when it has started, and at each change of the level."""

    level: Literal["debug", "info", "warning"]


# ---- control -> camera process


class CameraSetup(Message, frozen=True):
    """First message to a camera process."""

    stream: str
    source: str
    fps: float
    """Frames a second to deliver; 0: not paced."""
    loop: bool
    wait_for_reader: bool
    """Offer a frame only after the worker has taken the one before."""
    slot: SlotDescriptors
    triggered: bool = False
    """Frames come only on a trigger, so a pause without frames is not a fault."""
    open_s: float = 10.0
    read_s: float = 3.0
    ca_file: str | None = None
    """File of the CA that signed the camera's TLS certificate; None: the certificate is not verified."""
    hwdec: bool = False
    """Decode an RTSP stream in hardware where the device has a decoder."""
    model_side: int = 0
    """Input side of the largest model in pixels; hardware may scale frames down to it. 0: frames keep their size."""
    pictures: int | None = None  # descriptor of the picture link's end; None without a console


# ---- camera process -> control


class CameraOpened(Message, frozen=True):
    """The source was opened; frames follow."""

    stream: str
    width: int
    height: int
    fps: float
    detail: str
    """Name of the opened source."""
    decoder: str = ""
    """Decoder of a network stream, with the reason where it is not a hardware decoder; empty for other sources."""
    is_scaled: bool = False
    """Frames are scaled down by hardware; `width` and `height` are still those before scaling."""


class CameraFailed(Message, frozen=True):
    """The source failed to open or broke; the process retries with backoff."""

    stream: str
    detail: str


class CameraEnded(Message, frozen=True):
    """A file or folder that is not looped was read to its end; the process stays until it is stopped."""

    stream: str


# ---- control -> worker


class WorkerStream(msgspec.Struct, frozen=True):
    """One stream that the worker serves."""

    id: str
    line: str
    slot: SlotDescriptors
    is_paced: bool = True
    """False: frames come as fast as they are taken, so they leave no gaps for requests."""


class TrustSetup(msgspec.Struct, frozen=True):
    """Whom the worker trusts with models: minisign keys, or the root of a signed index; one of them is empty."""

    trusted_keys: tuple[str, ...]
    root: str
    """Path of the index's first root.json; empty: `trusted_keys` decide."""
    state_dir: str
    """Folder in which the newest verified index is kept."""


class MemoryLimit(msgspec.Struct, frozen=True):
    """Bytes of host and of GPU memory; the latter is 0 where no GPU has memory of its own."""

    host_bytes: int
    device_bytes: int = 0


class WorkerSetup(Message, frozen=True):
    """First message to a worker."""

    streams: tuple[WorkerStream, ...]
    compute: str
    budget_bytes: int
    """Limit on the host memory of all loaded models; it covers GPU memory, too, unless a GPU has its own."""
    cache_dir: str
    load_timeout_s: float
    prepared_max_bytes: int = 2 << 30
    """Disk space for compiled artifacts, under `cache_dir`."""
    device_budget_bytes: int | None = None
    """Limit on the GPU memory of all loaded models; None where no GPU has memory of its own."""
    trust: TrustSetup | None = None
    """Load only models with a verified signature; None: any model of the catalog."""
    guaranteed: MemoryLimit | None = None
    """Limit on the models in use; the budgets above may then change by `Share`. None: this is the only worker."""
    ceiling_bytes: int | None = None
    """Largest budget that the worker may ever get, of the pool that models live in; None: the present one."""
    requests: RequestLink | None = None
    """Link to the web process; None: no requests are served."""


class Assign(Message, frozen=True):
    """Assigns `model` to every stream of `line`; of several assignments, the one with the greatest `change` counts."""

    line: str
    change: int
    model: ModelVersion
    keeps_ready: bool = False
    """The model in use until the swap also fits the line's product, so the load must not cost it frames."""


class Prepare(Message, frozen=True):
    """Preloads `model` beside the serving one, and reserves it for `line`.

    The worker unloads for it no model that serves a line, takes part in a swap or is reserved; reserves it for `hold_s`
    seconds from this message's arrival, the making of an artifact not counted; and answers once with Prepared or
    PrepareFailed of the same `number`. A loaded model is only reserved; the same model again sets a new end. An Assign
    of the model to the line or the end of `hold_s` ends the reservation. A waiting Assign is executed before any
    waiting Prepare.
    """

    line: str
    number: int
    model: ModelVersion
    hold_s: float
    artifact_s: float = 0.0
    """Longest wait for the model's artifact, which is made first where there is none; 0: its file is loaded at once."""
    is_candidate: bool = False
    """It is to be compared on the line, so its reservation gives way to a changeover; the line's own one is another."""


class Preload(Message, frozen=True):
    """Replaces the list of models to load in idle time, the most likely first; `gone` have left the catalog."""

    models: tuple[ModelVersion, ...]
    gone: tuple[ModelVersion, ...] = ()


# ---- worker -> control


class SwapReport(msgspec.Struct, frozen=True):
    """Result of a swap: times in ms (`blind_ms`: without any model), and frames lost by all streams of the line."""

    residency: Residency
    order: Order
    load_ms: float
    warmup_ms: float
    blind_ms: float
    frames_lost: int


class Breaking(Message, frozen=True):
    """Announces a break-before-make swap: the old model is unloaded first, so the line has none until the swap ends."""

    line: str
    change: int


class Preparing(Message, frozen=True):
    """Compilation of the model of assignment `change`, which precedes its load, has begun (`on`) or ended."""

    line: str
    change: int
    on: bool


class Swapped(Message, frozen=True):
    """`model` is active and verified on every stream of `line`.

    Order: sent after the last detections of the previous model, and before the first of this one.
    """

    line: str
    change: int
    model: str
    report: SwapReport


class SwapFailed(Message, frozen=True):
    """The swap to `model` failed; `reason` and `detail` say why."""

    line: str
    change: int
    model: str
    active: str | None
    """The model that serves the line now; None: no model."""
    reason: Reason
    detail: str


class Prepared(Message, frozen=True):
    """`model` is resident, verified and reserved for `line`."""

    line: str
    number: int
    model: str


class PrepareFailed(Message, frozen=True):
    """`model` could not be preloaded beside the serving one; `may_fit`: a later attempt may find memory or disk."""

    line: str
    number: int
    model: str
    reason: Reason
    detail: str
    may_fit: bool = False


class StageTimes(msgspec.Struct, frozen=True, array_like=True):
    """Times of one frame's stages, in ms."""

    capture: float = 0.0
    """Time from capture until the frame is in its slot."""
    wait: float = 0.0
    """Wait in the slot, and for the model."""
    preprocess: float = 0.0
    """Conversion to the model's input."""
    infer: float = 0.0
    """Inference."""
    decode: float = 0.0
    """Decoding of the output to JSON."""


class Detections(Message, frozen=True):
    """Result of one inferred frame."""

    stream: str
    model: str
    """Reference of the model that inferred it."""
    frame: int
    captured_ns: int
    """Time of capture, CLOCK_MONOTONIC."""
    tail: bytes
    """End of the JSON payload, from `"model":` on; control prepends the rest."""
    counts: tuple[tuple[str, int], ...]
    """Pairs of a class label and the number of its objects in the frame."""
    stages_ms: StageTimes = StageTimes()


class InferenceFailed(Message, frozen=True):
    """A frame could not be inferred."""

    stream: str
    model: str
    in_a_row: int
    """Failures of `model` since its last good frame."""
    detail: str


class ResidentModel(msgspec.Struct, frozen=True):
    """One loaded model for the `cache` topic; `reserved_for` lists lines separated by commas, None for none."""

    model: str
    bytes: int
    state: str
    last_use: str
    reserved_for: str | None = None
    pools: dict[Pool, int] | None = None


class CacheState(Message, frozen=True):
    """State of the worker's model cache, sent on change.

    Where host and GPU memory are two pools, `budget_bytes` and `used_bytes` are those of the pool that models live in.
    """

    budget_bytes: int
    used_bytes: int
    models: tuple[ResidentModel, ...]
    pools: dict[Pool, CachePool] | None = None
    device_used_bytes: int = 0
    """GPU memory counted as used, in bytes, in whichever pool."""
    is_counted: bool = True
    """All of these bytes were counted by allocators; none is an estimate."""


class ModelRuns(Message, frozen=True):
    """A model was loaded and runs on `processor`; sent before the first `CacheState` that lists it as loaded."""

    model: str
    processor: ModelProcessor
    reading: ModelReading


class CacheDecided(Message, frozen=True):
    """A model was evicted, or refused for lack of memory."""

    decision: CacheDecision


class MemoryKept(Message, frozen=True):
    """Memory that unloaded models and hanging loads did not give back, still counted as used; sent on change."""

    bytes: int
    models: tuple[str, ...]


class ThreadCrashed(Message, frozen=True):
    """A thread of the child ended by an exception, and is restarted by the child."""

    thread: str
    detail: str


class Log(Message, frozen=True):
    """One log line for operators; `level` is a name of the logging module."""

    level: str
    text: str


# ---- every child -> control


class Hello(Message, frozen=True):
    """First message of a child, which has started and reads its channel."""

    pid: int
    versions: dict[str, str]
    """Versions of the libraries that the child runs."""


class StreamProgress(msgspec.Struct, frozen=True, array_like=True):
    """Progress of a stream's frames in the worker; times in ns of CLOCK_MONOTONIC, 0 for never."""

    stream: str
    taken_ns: int
    """Time at which the worker last took a frame."""
    answered_ns: int
    """Time at which the worker last answered a frame with its detections."""
    missed_ns: int
    """Time at which a frame was last taken but not answered."""
    missed: int
    """Frames in a row that were taken but not answered: inference failed, or they were overwritten while read."""
    infer_ns: int = 0
    """Usual duration of one inference of the serving model, 0 where unknown."""


class Beat(Message, frozen=True):
    """Heartbeat of a child, sent every 0.25 s."""

    busy_since_ns: int = 0
    """Start of the oldest call in progress (a read, an inference), CLOCK_MONOTONIC; 0: none.

    For a call that usually takes long, the time is later than its start by a grace period.
    """
    streams: tuple[StreamProgress, ...] = ()
    """Progress of each stream in the worker; empty in a camera's heartbeat."""
    is_request: bool = False
    """True where that call infers a client's request."""


CameraMessage = CameraOpened | CameraFailed | CameraEnded | Hello | Beat | Log
ToCamera = CameraSetup | LogSetup
