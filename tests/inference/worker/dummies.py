"""Models without a runtime, which take and give back bytes of a memory that is only counted; and a worker of them."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from inference.worker.plant import DEADLINE_S, Plant, entry_of
from numpy.typing import NDArray

from agent.inference.backends.in_flight import InFlightLimiter
from agent.inference.memory.runtime_overhead import RUNTIMES_OWN_BYTES
from agent.inference.serving.stream_pipeline import Outlet
from agent.inference.swapping.model_loading import Load
from agent.inference.worker import Worker
from agent.inference.yolo.objects import Objects, no_objects
from agent.messages.canary import Compare, StopComparing
from agent.messages.children import Assign, MemoryLimit, Message, Prepare, TrustSetup, WorkerSetup, WorkerStream
from agent.messages.errors import ModelError
from agent.messages.payloads import ModelProcessor
from agent.messages.references import ModelReading, ModelVersion
from agent.processes.slots.frame_slot import FrameSlot, SlotWriter

MIB: Final = 1 << 20
PREDICTED_A_FILE_BYTE: Final = 6
_BASE_BYTES: Final = 50 * MIB
_NOBODY: Final = nullcontext()


@dataclass
class Behaviour:
    """Behaviour of one model, changed at any time. A set event `..._may_end` blocks nothing.

    `hoards_bytes` are held by the frame of its load, for as long as that is there.
    """

    label: str = ""
    """The label of its only object; empty: the model's name."""
    score: float = 0.9
    box: tuple[int, int, int, int] = (1, 2, 30, 40)
    load_error: Exception | None = None
    proof_error: Exception | None = None
    answer_error: Exception | None = None
    grows_bytes: int | None = None
    hoards_bytes: int = 0
    leaks: bool = False
    load_may_end: threading.Event = field(default_factory=threading.Event)
    load_began: threading.Event = field(default_factory=threading.Event)
    answer_may_end: threading.Event = field(default_factory=threading.Event)
    answers_begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    check_may_end: threading.Event = field(default_factory=threading.Event)
    check_thread: int = 0
    close_may_end: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.load_may_end.set()
        self.check_may_end.set()
        self.answer_may_end.set()
        self.close_may_end.set()


class DummyModel:
    """One object whose label is the model's name."""

    backend: Final = "dummy"
    processor: Final = ModelProcessor("cpu", "dummy", "1", "CPU")
    imgsz: Final = (64, 64)
    reading: Final = ModelReading("detect", "v8")
    device_bytes: Final = 0

    def __init__(self, name: str, behaviour: Behaviour, close: Callable[[], None]) -> None:
        self.names: Final = (behaviour.label or name,)
        self._behaviour: Final = behaviour
        self._close: Final = close
        self.places: Final = InFlightLimiter()
        self._one_by_one: Final = threading.Lock()
        self.is_closed = False

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.array(image)

    def answer(
        self, prepared: object, during: AbstractContextManager[object] = _NOBODY, *, here: bool = False
    ) -> Objects:
        del here
        del prepared
        assert not self.is_closed, "a frame is inferred by a model that is closed"
        with during, self._one_by_one:
            self._behaviour.answers_begun.release()
            assert self._behaviour.answer_may_end.wait(DEADLINE_S)
        if self._behaviour.answer_error is not None:
            raise self._behaviour.answer_error
        assert not self.is_closed, "a model was closed under a frame"
        return _one_object(self._behaviour.score, self._behaviour.box)

    def infer(self, image: NDArray[np.uint8]) -> Objects:
        return self.answer(self.prepare(image))

    def check_outputs(self, image: NDArray[np.uint8]) -> Objects:
        del image
        self._behaviour.check_thread = threading.get_native_id()
        assert self._behaviour.check_may_end.wait(DEADLINE_S)
        if self._behaviour.proof_error is not None:
            raise self._behaviour.proof_error
        return _one_object()

    def refuse(self, why: str) -> None:
        self._behaviour.answer_error = ModelError("proof_failed", why)

    def close(self) -> None:
        assert not self.is_closed, "closed twice"
        self.is_closed = True
        assert self._behaviour.close_may_end.wait(DEADLINE_S)
        self._close()


class Hoard:
    """Bytes that are held until nobody refers to it."""

    def __init__(self, size_bytes: int, hold: Callable[[int], None]) -> None:
        self._size_bytes: Final = size_bytes
        self._hold: Final = hold
        hold(size_bytes)

    def __del__(self) -> None:
        self._hold(-self._size_bytes)


def _one_object(score: float = 0.9, box: tuple[int, int, int, int] = (1, 2, 30, 40)) -> Objects:
    """Return one object; none where the score is 0."""
    found = Objects(np.array([box], np.float32), np.array([score], np.float32), np.zeros(1, np.int32))
    return found if score else no_objects()


class DummyRuntime:
    """Loads dummies, which take `held_bytes` together; `brings_bytes` is what the first load has for the runtime."""

    def __init__(self, folder: Path) -> None:
        self._folder: Final = folder
        self.behaviours: Final[dict[str, Behaviour]] = {}
        self.loads: Final[list[str]] = []
        self.nices: Final[list[int]] = []
        self.closing_nices: Final[list[int]] = []
        """Nice value of the thread that closed each model."""
        self._thread = 0
        self.held_bytes = 0
        self.brings_bytes = RUNTIMES_OWN_BYTES
        self.own_bytes = 0
        self._lock: Final = threading.Lock()

    def make(self, name: str, size_mib: int = 60) -> ModelVersion:
        """Make a version that takes `size_mib`, as a first prediction says."""
        path = self._folder / f"{name}.dummy"
        with path.open("wb") as file:
            file.write(name.encode())
            file.truncate(size_mib * MIB // PREDICTED_A_FILE_BYTE)
        self.behaviours[name] = Behaviour()
        return entry_of(name, path, {"backend": "dummy"})

    def load(self, version: ModelVersion, compute: str, cache_dir: Path) -> DummyModel:
        del compute, cache_dir
        behaviour = self.behaviours[version.name]
        size_bytes = behaviour.grows_bytes or Path(version.path).stat().st_size * PREDICTED_A_FILE_BYTE
        self.loads.append(version.name)
        self._thread = threading.get_native_id()
        self.nices.append(self.loading_nice())
        behaviour.load_began.set()
        assert behaviour.load_may_end.wait(DEADLINE_S)
        hoard = Hoard(behaviour.hoards_bytes, self._hold)
        if behaviour.load_error is not None:
            raise behaviour.load_error
        del hoard
        self._hold(size_bytes)
        if self.own_bytes == 0:
            self.own_bytes = self.brings_bytes
        return DummyModel(version.name, behaviour, lambda: self._closed(0 if behaviour.leaks else size_bytes))

    def loading_nice(self) -> int:
        """Return the nice value of the thread that loaded last."""
        return os.getpriority(os.PRIO_PROCESS, self._thread)

    def process_bytes(self) -> int:
        """Return what the process holds: its base, the models, and from the first load on the runtime's own."""
        return _BASE_BYTES + self.own_bytes + self.held_bytes

    def _closed(self, freed_bytes: int) -> None:
        self.closing_nices.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
        self._hold(-freed_bytes)

    def _hold(self, more_bytes: int) -> None:
        with self._lock:
            self.held_bytes += more_bytes


class PlantOfDummies(Plant):
    """A worker of dummies, in this process."""

    def __init__(
        self, worker: Callable[[Outlet], Worker], heard: Callable[[Message], None] = lambda _message: None
    ) -> None:
        super().__init__(self._give)
        self._heard: Final = heard
        self.busy_now = 0
        self.graces_s: Final[list[float]] = []
        self.worker: Final = worker(Outlet(self._hear, self._busy))

    def _hear(self, message: Message) -> None:
        self.hear(message)
        self._heard(message)

    def cost_the_same(self, reload_ms: float = 100.0, **others_ms: float) -> None:
        """Have every resident model cost the same to load again, but for those named."""
        for entry in self.worker._cache._entries:
            entry.reload_ms = others_ms.get(entry.version.name, reload_ms)

    def _give(self, message: Assign | Prepare | Compare | StopComparing) -> None:
        match message:
            case Prepare():
                self.worker.prepare(message)
            case Compare():
                self.worker.compare(message)
            case StopComparing():
                self.worker.stop_comparing(message)
            case Assign():
                self.worker.assign(message)

    @contextmanager
    def _busy(self, grace_s: float, *, is_request: bool = False) -> Iterator[None]:
        self.busy_now += 1
        self.graces_s.append(grace_s)
        assert not is_request or grace_s
        try:
            yield
        finally:
            self.busy_now -= 1


def start_dummies(  # noqa: PLR0913 - each option is one thing that a test is about
    stack: ExitStack,
    load: Load,
    cache_dir: Path,
    *,
    lines: dict[str, str] | None = None,
    budget_mib: int = 200,
    load_timeout_s: float = DEADLINE_S,
    compute: str = "cpu",
    device_budget_mib: int | None = None,
    trust: TrustSetup | None = None,
    guaranteed_mib: int | None = None,
    heard: Callable[[Message], None] = lambda _message: None,
) -> PlantOfDummies:
    """Start a worker for `lines` (by stream); `stack` ends it."""
    line_of = lines or {"cam-1": "line-1"}
    slots = {stream: FrameSlot.create(stream) for stream in line_of}
    for slot in slots.values():
        stack.callback(slot.close)
    members = tuple(WorkerStream(stream, line_of[stream], slot.descriptors()) for stream, slot in slots.items())
    device_bytes = None if device_budget_mib is None else device_budget_mib * MIB
    setup = WorkerSetup(
        members,
        compute,
        budget_mib * MIB,
        str(cache_dir),
        load_timeout_s,
        device_budget_bytes=device_bytes,
        trust=trust,
        guaranteed=None if guaranteed_mib is None else MemoryLimit(guaranteed_mib * MIB),
    )
    plant = PlantOfDummies(lambda outlet: Worker(setup, outlet, load), heard)
    for stream, slot in slots.items():
        plant.writers[stream] = SlotWriter(slot.descriptors())
    plant.worker.start()
    stack.callback(plant.worker.stop)
    return plant


def wait_for(is_there: Callable[[], object]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not is_there():
        assert time.monotonic() < deadline_s, "not in time"
        time.sleep(0.005)
