"""Messages between control and its children (cameras, worker), over `processes.channel`.

Each message is a tagged msgspec Struct, so a channel decodes only these types, and a worker that runs foreign weights
cannot make control run code.
"""

from typing import Literal

import msgspec

from agent.messages.errors import Reason
from agent.messages.payloads import CacheDecision, CachePool, ModelProcessor, Pool
from agent.messages.references import ModelVersion

Residency = Literal["resident", "weights", "cold"]
Order = Literal["make-before-break", "break-before-make"]


class Message(msgspec.Struct, frozen=True, tag=True):
    """Base of all messages."""


class SlotDescriptors(msgspec.Struct, frozen=True):
    """File descriptors of one stream's frame slot, valid in the receiving process."""

    memory: int
    offered: int
    taken: int


# ---- control -> every child


class LogSetup(Message, frozen=True):
    """The level to log at, sent to a child that is up and at each change."""

    level: Literal["debug", "info", "warning"]


# ---- control -> camera process


class CameraSetup(Message, frozen=True):
    """First message to a camera process."""

    stream: str
    source: str
    fps: float
    """0: unpaced."""
    loop: bool
    wait_for_reader: bool
    """Keep each frame until it is taken."""
    slot: SlotDescriptors
    triggered: bool = False
    """A pause without frames is no fault."""
    open_s: float = 10.0
    read_s: float = 3.0
    ca_file: str | None = None
    """Authority of the camera's TLS certificate; None: not verified."""
    hwdec: bool = False
    """Decode an RTSP stream in hardware where there is any."""
    model_side: int = 0
    """Side of the largest model's input in pixels, down to which hardware may scale; 0: frames keep their size."""


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
    """Decoder of a network stream, with the reason where it is not the hardware's."""
    is_scaled: bool = False
    """Frames are scaled down by hardware; `width` and `height` are the camera's all the same."""


class CameraFailed(Message, frozen=True):
    """The source failed to open or broke; the process retries with backoff."""

    stream: str
    detail: str


class CameraEnded(Message, frozen=True):
    """A file or folder without `loop` ended; the process stays until it is stopped."""

    stream: str


# ---- control -> worker


class WorkerStream(msgspec.Struct, frozen=True):
    """One stream that the worker serves."""

    id: str
    line: str
    slot: SlotDescriptors


class WorkerSetup(Message, frozen=True):
    """First message to a worker."""

    streams: tuple[WorkerStream, ...]
    compute: str
    budget_bytes: int
    """Budget of all resident models in host memory, which is all memory unless a GPU has its own."""
    cache_dir: str
    load_timeout_s: float
    prepared_max_bytes: int = 2 << 30
    """Disk space for compiled artifacts, under `cache_dir`."""
    device_budget_bytes: int | None = None
    """Budget of all resident models in a GPU's own memory; None without a second pool."""


class Assign(Message, frozen=True):
    """Assigns `model` to every stream of `line`; the greatest `change` supersedes earlier ones."""

    line: str
    change: int
    model: ModelVersion
    keeps_ready: bool = False
    """The model that serves meanwhile is right for the product, too, so its frames count."""


class Prepare(Message, frozen=True):
    """Preloads `model` beside the serving one, and reserves it for `line`.

    The worker loads it as a standby (verified like any other; never break-before-make, never evicting an active, pinned
    or reserved model), reserves it for `line` during `hold_s` seconds from its arrival, and answers once with Prepared
    or PrepareFailed of the same `number`. A resident model is only reserved. The same model again extends the
    reservation; another model adds one. An Assign of the model to the line or the end of `hold_s` ends the reservation.
    An Assign precedes every waiting Prepare.
    """

    line: str
    number: int
    model: ModelVersion
    hold_s: float


# ---- worker -> control


class SwapReport(msgspec.Struct, frozen=True):
    """Result of a swap; times in ms, `frames_lost` summed over the line's streams."""

    residency: Residency
    order: Order
    load_ms: float
    warmup_ms: float
    blind_ms: float
    frames_lost: int


class Breaking(Message, frozen=True):
    """Announces a break-before-make swap: the line has no model until Swapped."""

    line: str
    change: int


class Preparing(Message, frozen=True):
    """The model of a change is being compiled before its load, or no longer is."""

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
    """The swap failed."""

    line: str
    change: int
    model: str
    active: str | None
    """The model that serves the line now; None: nothing."""
    reason: Reason
    detail: str


class Prepared(Message, frozen=True):
    """`model` is resident, verified and reserved for `line`."""

    line: str
    number: int
    model: str


class PrepareFailed(Message, frozen=True):
    """`model` could not be loaded beside the serving one, and was dropped."""

    line: str
    number: int
    model: str
    reason: Reason
    detail: str


class StageTimes(msgspec.Struct, frozen=True, array_like=True):
    """Times of one frame's stages, in ms."""

    capture: float = 0.0
    """Capture until the frame is in its slot."""
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
    """CLOCK_MONOTONIC."""
    tail: bytes
    """End of the JSON payload, from `"model":` on; control prepends the rest."""
    counts: tuple[tuple[str, int], ...]
    """Pairs of label and number of objects."""
    stages_ms: StageTimes = StageTimes()


class InferenceFailed(Message, frozen=True):
    """A frame could not be inferred."""

    stream: str
    model: str
    in_a_row: int
    """Failures of `model` since its last good frame."""
    detail: str


class ResidentModel(msgspec.Struct, frozen=True):
    """One model of the `cache` topic; `reserved_for` lists lines, separated by commas."""

    model: str
    bytes: int
    state: str
    last_use: str
    reserved_for: str | None = None
    pools: dict[Pool, int] | None = None


class CacheState(Message, frozen=True):
    """State of the worker's model cache, sent on change; with two pools, its plain figures are of one of them."""

    budget_bytes: int
    used_bytes: int
    models: tuple[ResidentModel, ...]
    pools: dict[Pool, CachePool] | None = None
    device_used_bytes: int = 0
    """Charged bytes of GPU memory, in whichever pool."""
    is_counted: bool = True
    """Allocators count all of these bytes; none of them is a guess."""


class ModelRuns(Message, frozen=True):
    """A model was loaded; sent before the `CacheState` in which it is resident."""

    model: str
    processor: ModelProcessor


class CacheDecided(Message, frozen=True):
    """A model was evicted, or refused for lack of memory."""

    decision: CacheDecision


class MemoryKept(Message, frozen=True):
    """Memory of unloaded models that was not returned and stays charged; sent on change, 0 when all is back."""

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
    """Progress of a stream's frames in the worker; times are CLOCK_MONOTONIC, 0 for never."""

    stream: str
    taken_ns: int
    """A frame was last taken."""
    answered_ns: int
    """A frame was last answered."""
    missed_ns: int
    """A frame was last taken without an answer."""
    missed: int
    """Frames in a row that were taken without an answer (failed or torn)."""
    infer_ns: int = 0
    """Usual duration of one inference of the serving model, 0 where unknown."""


class Beat(Message, frozen=True):
    """Heartbeat of a child, sent every 0.25 s."""

    busy_since_ns: int = 0
    """Start of the oldest call in progress (a read, an inference), CLOCK_MONOTONIC; 0: none.

    The start of a call that usually takes long is later by its grace.
    """
    streams: tuple[StreamProgress, ...] = ()
    """Progress of the worker's streams."""


CameraMessage = CameraOpened | CameraFailed | CameraEnded | Hello | Beat | Log
WorkerMessage = (
    Breaking
    | Preparing
    | Swapped
    | SwapFailed
    | Prepared
    | PrepareFailed
    | Detections
    | InferenceFailed
    | CacheState
    | ModelRuns
    | CacheDecided
    | MemoryKept
    | ThreadCrashed
    | Hello
    | Beat
    | Log
)
ToCamera = CameraSetup | LogSetup
ToWorker = WorkerSetup | Assign | Prepare | LogSetup
