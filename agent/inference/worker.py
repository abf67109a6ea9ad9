"""Composes the worker: cache, load queue, preloader, and for each line a swapper and its streams' pipelines."""

import logging
import threading
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

from agent.inference import backends
from agent.inference.backends import Model, load, processor_of
from agent.inference.comparing.comparisons import Comparisons
from agent.inference.cuda.device import DEVICES
from agent.inference.memory.admission import AdmissionController
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.cache_report import cache_state
from agent.inference.memory.device_pool import DevicePool
from agent.inference.memory.footprints import Footprints
from agent.inference.memory.pools import Budget
from agent.inference.memory.runtime_overhead import RuntimeOverhead
from agent.inference.memory.unloader import Unloader
from agent.inference.preparing.background_builder import BackgroundBuilder
from agent.inference.processors.ran_on import RanOn
from agent.inference.requests.request_server import RequestServer
from agent.inference.scheduling.idle_cpu import IdleCpuSampler
from agent.inference.serving.frame_loss import FrameLossCounter
from agent.inference.serving.line_gate import ActiveModelGate
from agent.inference.serving.model_threads import ThreadsOfModels
from agent.inference.serving.stream_pipeline import Outlet, StreamPipeline
from agent.inference.swapping.budget_share import BudgetShare
from agent.inference.swapping.file_check import FileCheck
from agent.inference.swapping.idle_prover import IdleProver
from agent.inference.swapping.load_queue import LoadQueue
from agent.inference.swapping.model_loading import Load, ModelLoader
from agent.inference.swapping.preloader import Preloader
from agent.inference.swapping.swapper import Swapper
from agent.messages.canary import Compare, StopComparing
from agent.messages.children import (
    Assign,
    Log,
    MemoryLimit,
    ModelRuns,
    Preload,
    Prepare,
    PrepareFailed,
    StreamProgress,
    SwapFailed,
    WorkerSetup,
    WorkerStream,
)
from agent.messages.groups.memory_share import Share, ShareRecalled
from agent.messages.references import ModelVersion
from agent.messages.web.holding import HoldModel
from agent.processes.slots.frame_slot import FrameSlot, SlotReader
from agent.trust.opening import opener

_LOG: Final = logging.getLogger(__name__)
_RELEASE_TIMEOUT_S: Final = 2.0


class Worker:
    """Everything that a worker process runs, from `start` to `stop`."""

    def __init__(self, setup: WorkerSetup, outlet: Outlet, load_model: Load = load) -> None:
        self._setup: Final = setup
        self._outlet: Final = outlet
        self._sending_cache: Final = threading.Lock()
        budget = Budget(setup.budget_bytes, setup.device_budget_bytes)
        guaranteed = _budget_of(setup.guaranteed, budget) if setup.guaranteed is not None else None
        self._cache: Final[Cache[Model]] = Cache(budget, self._send_cache, guaranteed=guaranteed)
        self._share: Final = BudgetShare(self._cache, outlet.send)
        self._threads: Final = ThreadsOfModels()
        self._lines: Final = {
            name: ActiveModelGate(name, self._cache, self._threads) for name in sorted({s.line for s in setup.streams})
        }
        self._footprints: Final = Footprints(Path(setup.cache_dir))
        self._idle_cpu: Final = IdleCpuSampler()
        self._artifacts: Final = BackgroundBuilder(
            setup.compute, Path(setup.cache_dir), setup.prepared_max_bytes, during=self._idle_cpu.paused
        )
        self._ran_on: Final = RanOn(Path(setup.cache_dir))
        self._load_model: Final = load_model
        self._prover: Final = IdleProver(
            self._cache, self._idle_cpu, outlet.slack, self._warn, setup.compute, Path(setup.cache_dir)
        )
        self._loads: Final = self._make_load_queue()
        self._swappers: Final = {n: Swapper(line, self._loads, outlet.send) for n, line in self._lines.items()}
        self._preloader: Final = Preloader(self._loads, outlet.send)
        self._pipelines: Final[list[StreamPipeline]] = []
        self._comparisons: Final = Comparisons(
            self._cache, self._lines, outlet.send, outlet.slack, self._idle_cpu.paused
        )
        link = setup.requests
        self._requests: Final = RequestServer(link, self._loads, self._cache, outlet) if link is not None else None
        self._running: Final = ExitStack()

    def start(self) -> None:
        """Read the footprints, attach to the slots, and start every thread."""
        budget = self._cache.budget
        present_bytes = budget.host_bytes if budget.device_bytes is None else budget.device_bytes
        limit_bytes = self._setup.ceiling_bytes or present_bytes
        backends.DEVICE_LIMIT.bytes = limit_bytes
        DEVICES.count_with(partial(DevicePool, limit_bytes))
        self._footprints.read()
        self._send_cache()
        self._pipelines.extend(self._make_pipeline(stream) for stream in self._setup.streams)
        self._running.callback(self._threads.join)
        for pipeline in self._pipelines:
            self._begin(pipeline.start, pipeline.stop)
        self._begin(self._artifacts.start, self._artifacts.stop)
        self._begin(lambda: self._prover.start(self._loads.has_preload), self._prover.stop)
        self._begin(self._loads.start, self._loads.stop)
        self._begin(self._preloader.start, self._preloader.stop)
        self._begin(lambda: self._comparisons.start(tuple(self._pipelines)), self._comparisons.stop)
        for swapper in self._swappers.values():
            self._begin(swapper.start, swapper.stop)
        if self._requests is not None:
            self._begin(self._requests.start, self._requests.stop)

    def stop(self) -> None:
        """Stop what `start` started, in reverse order; return when no thread infers or swaps any more."""
        self._running.close()

    def progress(self) -> tuple[StreamProgress, ...]:
        """Return the progress of every stream's frames. From any thread."""
        return tuple(pipeline.progress() for pipeline in tuple(self._pipelines))

    def loads(self) -> dict[str, frozenset[str]]:
        """Return the lines that wait for each load, by the model's reference. From any thread."""
        return self._loads.waiting()

    def assign(self, assign: Assign) -> None:
        """Hand an assignment to its line's swapper."""
        swapper = self._swappers.get(assign.line)
        if swapper is None:
            detail = f"the worker has no line {assign.line!r}"
            model = assign.model.reference
            self._outlet.send(SwapFailed(assign.line, assign.change, model, None, "unknown_line", detail))
            return
        swapper.assign(assign)

    def prepare(self, prepare: Prepare) -> None:
        """Hand an announcement to the preloader."""
        if prepare.line not in self._lines:
            detail = f"the worker has no line {prepare.line!r}"
            model = prepare.model.reference
            self._outlet.send(PrepareFailed(prepare.line, prepare.number, model, "unknown_line", detail))
            return
        self._preloader.prepare(prepare)

    def preload(self, preload: Preload) -> None:
        """Replace the list of models to load in idle time, and unload those that have left the catalog."""
        self._loads.preload(preload.models, preload.gone)

    def share(self, message: Share | ShareRecalled) -> None:
        """Take a new limit on the memory of all models."""
        if isinstance(message, Share):
            self._share.take(message)
        else:
            self._loads.recall(message)

    def compare(self, message: Compare) -> None:
        """Begin a comparison."""
        self._comparisons.begin(message)

    def stop_comparing(self, message: StopComparing) -> None:
        """End a comparison."""
        self._comparisons.end(message)

    def hold(self, message: HoldModel) -> None:
        """Load a model and keep it for requests."""
        if self._requests is not None:
            self._requests.hold(message)

    def _begin(self, start: Callable[[], None], stop: Callable[[], None]) -> None:
        start()
        self._running.callback(stop)

    def _load_and_tell(self, version: ModelVersion, compute: str, cache_dir: Path) -> Model:
        """Load a model, and report the processor that it runs on and what its output means."""
        model = self._load_model(version, compute, cache_dir)
        processor = processor_of(model, version, compute)
        self._ran_on.note(version.reference, processor)
        self._outlet.send(ModelRuns(version.reference, processor, model.reading))
        return model

    def _make_load_queue(self) -> LoadQueue:
        overhead = RuntimeOverhead()
        unloader = Unloader(self._cache, self._footprints, overhead, _RELEASE_TIMEOUT_S, self._warn)
        admission = AdmissionController(
            self._cache, unloader, self._outlet.send, self._share.borrow, self._give_up_candidate
        )
        model_loader = ModelLoader(
            self._cache,
            self._footprints,
            admission,
            unloader,
            overhead,
            self._idle_cpu,
            self._load_and_tell,
            make_artifact=self._artifacts.ask,
            prove_later=self._prover.ask,
            compute=self._setup.compute,
            cache_dir=Path(self._setup.cache_dir),
            files=FileCheck(open_verifier=opener(self._setup.trust)),
        )
        unloader.priority = model_loader.release_priority
        return LoadQueue(
            self._cache,
            model_loader,
            admission,
            self._artifacts,
            self._idle_cpu,
            self._setup.load_timeout_s,
            self._warn,
            self._share,
        )

    def _give_up_candidate(self, candidate: Entry[Model], wanted: ModelVersion) -> None:
        self._comparisons.give_way(candidate, wanted)

    def _make_pipeline(self, stream: WorkerStream) -> StreamPipeline:
        slot = FrameSlot(stream.slot)  # never closed, because the descriptors belong to the process

        def read_slot() -> tuple[int, int]:
            counters = slot.counters()
            return counters.offered, counters.overwritten

        line, slot_reader = self._lines[stream.line], SlotReader(stream.slot)
        loss = line.frame_losses[stream.id] = FrameLossCounter(read_slot)
        self._outlet.slack.add(stream.id, slot_reader.is_waiting, is_paced=stream.is_paced)
        return StreamPipeline(stream.id, slot_reader, line, loss, self._outlet)

    def _warn(self, text: str) -> None:
        _LOG.warning("event=warning detail=%r", text)
        self._outlet.send(Log("WARNING", text))

    def _send_cache(self) -> None:
        with self._sending_cache:  # because the ledger read last must be the one sent last
            self._outlet.send(cache_state(self._cache, self._setup.compute))


def _budget_of(limit: MemoryLimit, like: Budget) -> Budget:
    """Return a limit as a budget of as many pools as another one has."""
    return Budget(limit.host_bytes, None if like.device_bytes is None else limit.device_bytes)
