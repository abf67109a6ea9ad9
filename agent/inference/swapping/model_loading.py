"""Loads one model in six steps: verify its file, admit, load, warm up, check golden pictures, hand over."""

import gc
import importlib
import logging
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.inference.artifacts.artifact_store import Artifact, ArtifactStore
from agent.inference.backends import Model, artifact_key, backend_of, require_openable, require_processor, target_of
from agent.inference.memory import process_memory
from agent.inference.memory.admission import AdmissionController, NoRoomError, WouldBreakError
from agent.inference.memory.cache import Cache, DeviceCharge, Entry, Origin
from agent.inference.memory.footprints import (
    Footprint,
    Footprints,
    guess_artifact_bytes,
    guess_engine_bytes,
    guess_source_bytes,
)
from agent.inference.memory.pools import Amount, is_in_device
from agent.inference.memory.runtime_overhead import RUNTIMES_OWN_BYTES, RuntimeOverhead
from agent.inference.memory.unloader import Unloader, WatchedLoad
from agent.inference.scheduling import load_priority
from agent.inference.scheduling.idle_cpu import IdleCpuSampler
from agent.inference.scheduling.load_priority import LoadPriority
from agent.inference.scheduling.runtime_threads import RuntimeThreads
from agent.inference.swapping.file_check import FileCheck
from agent.inference.swapping.load_job import LoadJob, LoadTimes, NoArtifactError
from agent.inference.validation.golden import prove, warm_up
from agent.inference.validation.proof_record import ProofRecord
from agent.messages.errors import OutOfDeviceMemoryError, OutOfMemoryError
from agent.messages.references import ModelVersion
from agent.processes.scheduling import priorities

_LOG: Final = logging.getLogger(__name__)

_OTHER_GROUPS: Final = "other groups"
"""Stands among the lines that serve for those of other workers, which are taken to serve at any time."""
_MOST_CORRECTIONS: Final = 2
"""Further attempts of a load whose GPU memory was predicted too low."""

Load = Callable[[ModelVersion, str, Path], Model]


@dataclass(frozen=True)
class VerifiedFile:
    """A model's file with a verified sha256, and its expected size in memory."""

    version: ModelVersion
    origin: Origin
    file_bytes: int
    predicted: Amount
    is_guessed: bool
    """The expected size is a guess, because the model was never measured on this device."""
    has_artifact: bool
    proof_subject: str
    """Hash of everything that the checks of the artifact depend on; empty without an artifact."""


class ModelLoader:
    """Loader of models, one at a time. Owner: the worker.

    Threading: one call of `load_model` at a time, but one that timed out may still end while another runs.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the worker's composition, spelt out
        self,
        cache: Cache[Model],
        footprints: Footprints,
        admission: AdmissionController,
        unloader: Unloader,
        overhead: RuntimeOverhead,
        idle_cpu: IdleCpuSampler,
        load: Load,
        *,
        make_artifact: Callable[[ModelVersion], None],
        prove_later: Callable[[ModelVersion, str], None],
        compute: str,
        cache_dir: Path,
        files: FileCheck,
    ) -> None:
        """Store the arguments; `make_artifact` and `prove_later` must return at once.

        `make_artifact` is called for each version that should have an artifact. `prove_later` is called for each model
        whose golden pictures were skipped at the load, because it had passed them before; it gets
        `VerifiedFile.proof_subject`.
        """
        self._cache: Final = cache
        self._footprints: Final = footprints
        self._admission: Final = admission
        self._unloader: Final = unloader
        self._overhead: Final = overhead
        self._idle_cpu: Final = idle_cpu
        self._load: Final = load
        self._make_artifact: Final = make_artifact
        self._prove_later: Final = prove_later
        self._compute: Final = compute
        self._cache_dir: Final = cache_dir
        self._artifacts: Final = ArtifactStore(cache_dir)
        self._proofs: Final = ProofRecord(cache_dir, compute)
        self._files: Final = files
        self._runtimes: Final[set[str]] = set()
        self._threads: Final = RuntimeThreads()
        self._job: LoadJob | None = None
        """The load that began last, until it ends."""

    def load_model(self, job: LoadJob) -> None:
        """Load the model of `job`, and assign it to all lines that then wait for it or have announced it.

        Where GPU memory was predicted too low, the load is admitted again with a higher prediction.

        Raises ModelError (NotPreparedError where an artifact is to be made first), OutOfMemoryError (NoRoomError where
        the budget has no room), and DroppedError once no line waits for the model or has announced it.
        """
        began_ns, self._job = time.monotonic_ns(), job
        try:
            with load_priority.lowered(self._priority(job), may_stay=False):
                file = self._verify(job)
            self._load_predicted(job, file, _ms_since(began_ns), _MOST_CORRECTIONS)
        finally:
            if self._job is job:  # because one that timed out may end while another runs
                self._job = None

    def _load_predicted(self, job: LoadJob, file: VerifiedFile, verify_ms: float, corrections: int) -> None:
        """Load a verified file; retry up to `corrections` times where its GPU memory was predicted too low."""
        try:
            entry = self._admit(job, file)
            with self._unloader.watched(entry, lambda: job.is_abandoned) as load:
                self._load_admitted(job, file, load, verify_ms, is_last=not corrections)
        except OutOfDeviceMemoryError as error:
            if not corrections:
                raise
            file = _predicted_higher(file, error.short_bytes)
        else:
            return
        self._load_predicted(job, file, verify_ms, corrections - 1)

    def _load_admitted(
        self, job: LoadJob, file: VerifiedFile, load: WatchedLoad, verify_ms: float, *, is_last: bool
    ) -> None:
        """Load, check and hand over a model, whose bytes are charged to `load.entry`.

        Where a step fails, the model is closed, and the entry ends once a measurement shows that its bytes are free.
        """
        model, entry, before_bytes = None, load.entry, process_memory.process_bytes()
        try:
            is_first = self._import_runtime(file.origin.backend)
            process_memory.trim()
            before_bytes, released_bytes = process_memory.process_bytes(), self._unloader.released_bytes
            began_ns = time.monotonic_ns()
            with self._threads.of_load() as threads, self._lowered(job, threads.kept), load.unmeasured():
                model = self._load(job.version, self._compute, self._cache_dir)
                threads.serve(model)
                load_ms = verify_ms + _ms_since(began_ns)
                began_ns = time.monotonic_ns()
                self._verify_again(file)
                job.require_wanted()
                is_proven = self._proofs.holds(job.version, file.proof_subject)
                warmed_ns = time.monotonic_ns()
                pictures = warm_up(model, is_proven=is_proven)
                model.places.expect((time.monotonic_ns() - warmed_ns) // pictures)
                if not is_proven:
                    prove(model, job.version, job.require_wanted)
                    self._proofs.remember(job.version, file.proof_subject)
            job.require_wanted()
            times = LoadTimes(load_ms, _ms_since(began_ns))
            process_memory.trim()
            grown_bytes = process_memory.process_bytes() - before_bytes
            grown_bytes += self._unloader.released_bytes - released_bytes  # by a recall that did not wait for the load
            self._measure(file, entry, grown_bytes, _in_device(file, model), times, is_first=is_first)
            if not job.version.is_tensors:  # whose session is made of the file itself
                self._make_artifact(job.version)
            self._require_fit(job, entry)
            self._hand_over(job, entry, model, times)
            if is_proven:
                self._prove_later(job.version, file.proof_subject)
        except BaseException as error:
            is_corrected = isinstance(error, OutOfDeviceMemoryError) and not is_last
            if isinstance(error, OutOfMemoryError) and not isinstance(error, NoRoomError) and not is_corrected:
                self._admission.out_of_memory(entry)
            process_memory.let_go(error)
            self._unloader.discard(entry, model, before_bytes)
            raise

    def _lowered(self, job: LoadJob, threads: frozenset[int]) -> AbstractContextManager[None]:
        """Lower the caller, which ends soon, and `threads` for a block at the job's priority."""
        return load_priority.lowered(self._priority(job), may_stay=True, others=threads)

    def _priority(self, job: LoadJob) -> LoadPriority:
        """Return the CPU priority of the job's next step. Raises DroppedError where no line wants the model."""
        with job.turn:
            job.require_wanted()
            return self.priority(job)

    def priority(self, job: LoadJob) -> LoadPriority:
        """Return the CPU priority of the job's next step; the caller holds `turn`."""
        return job.priority(self._idle_cpu.share, self._serving())

    def release_priority(self) -> LoadPriority:
        """Return the CPU priority of an unload: that of the load under way, which may wait for the memory."""
        job = self._job
        if job is not None:
            with job.turn:
                if not job.is_abandoned:
                    return self.priority(job)
        return load_priority.choose(self._idle_cpu.share, self._serving(), set())

    def _serving(self) -> set[str]:
        return self._cache.serving() | ({_OTHER_GROUPS} if self._cache.guaranteed is not None else set())

    def is_patient(self, job: LoadJob) -> bool:
        """Return True where a process may prepare the job's model in idle time only; the caller holds `turn`."""
        return self.priority(job) == "idle" and priorities.can_return()

    def _verify(self, job: LoadJob) -> VerifiedFile:
        """Verify the version's files against the catalog, and predict the model's size in memory.

        Raises ModelError ("file_missing", "hash_mismatch"), ProcessorError where the processor cannot start, and
        NotPreparedError for a checkpoint without an artifact (NoArtifactError for a graph that can wait for its own).

        A file whose artifact is loaded instead need only be unchanged, because the artifact is hashed as it is read.
        """
        version = job.version
        artifact = self._artifacts.find(artifact_key(version, self._compute))
        if artifact is None:
            # first, because what is not trusted is not prepared either
            file_bytes = self._files.require_right(version)
            require_openable(version, self._compute)
            self._require_artifact(job)
            guess_bytes = guess_source_bytes(file_bytes)
        else:
            self._require_unchanged(version, artifact)
            file_bytes = artifact.bytes
            guess_bytes = guess_artifact_bytes(artifact.bytes, artifact.imgsz)
        backend = backend_of(version, self._compute, is_prepared=artifact is not None)
        require_processor(version, backend, self._compute)  # before anything is evicted for it
        key = f"{version.sha256.lower()}/{backend}/{self._compute}/{version.imgsz or 'own'}"
        key += "/artifact" if artifact else "/tensors" if version.is_tensors else ""
        if artifact is not None and backend == "tensorrt":
            guess_bytes = guess_engine_bytes(artifact.bytes, artifact.imgsz)
        known = self._footprints.known(key)
        is_on_gpu = is_in_device(backend, target_of(version, backend, self._compute))
        guess = Amount(file_bytes, guess_bytes) if is_on_gpu else Amount(guess_bytes)
        predicted = known.amount if known is not None else guess
        subject = self._proofs.subject(version) if artifact is not None else ""
        sizes = (file_bytes, predicted, known is None)
        return VerifiedFile(version, Origin(backend, key), *sizes, artifact is not None, subject)

    def _require_unchanged(self, version: ModelVersion, artifact: Artifact) -> None:
        """Verify the files that `artifact` was made from; they are hashed where they changed since their last hash."""
        self._files.recall(version, artifact.verified)
        self._files.require_unchanged(version)
        seen, key = self._files.remembered(version), artifact_key(version, self._compute)
        if not seen or seen == artifact.verified or key is None:
            return
        try:
            self._artifacts.verified(key, seen)
        except OSError as error:  # because only the first load after a restart takes longer
            _LOG.info("event=verification_not_recorded model=%s detail=%r", version.reference, str(error))

    def _require_artifact(self, job: LoadJob) -> None:
        """Raise NoArtifactError where an artifact can be made before anybody needs the model.

        It is made by a process of its own, because a runtime that compiles delays the frames of those that serve.
        """
        with job.turn:
            is_to_wait = job.is_patient and not job.was_prepared
        if is_to_wait and artifact_key(job.version, self._compute) is not None:
            raise NoArtifactError(f"{job.version.reference}: its artifact is made first")

    def _verify_again(self, file: VerifiedFile) -> None:
        """Verify the source file once more after the load, where the runtime read it instead of an artifact."""
        if not file.has_artifact:
            self._files.require_same(file.version)
        elif not self._artifacts.find(artifact_key(file.version, self._compute)):
            self._files.require_right(file.version)

    def _admit(self, job: LoadJob, file: VerifiedFile) -> Entry[Model]:
        """Make room, charge the load, and return its entry in the cache; for a preload that nobody requests make none.

        Raises NoRoomError where no eviction suffices (WouldBreakError where lines may not be asked to deactivate their
        models), and DroppedError once nobody wants the model.
        """
        self._admission.recheck()
        while True:
            lines = job.require_wanted()
            try:
                if not job.has_been_requested():
                    return self._admission.charge_free(job.version, file.predicted, file.origin)
                found = self._admission.charge(job.version, file.predicted, lines, file.origin)
            except NoRoomError:
                if file.is_guessed and not file.has_artifact:
                    self._make_artifact(file.version)  # because an artifact takes less, and is guessed better
                raise
            if isinstance(found, Entry):
                return found
            if found.lines and not job.may_break:
                raise WouldBreakError(job.version)
            if found.leave:
                job.ask_to_leave(found.lines)
                job.require_wanted()
                load_priority.restore_normal()  # because a proof in idle time may be at its last picture of them
            self._admission.carry_out(found, lines)

    def _require_fit(self, job: LoadJob, entry: Entry[Model]) -> None:
        """Evict models until a loaded one fits the budget; none for a preload that nobody requests."""
        lines = job.require_wanted()
        if job.has_been_requested():
            self._admission.require_fit(entry, lines)
        else:
            self._admission.require_free(entry)

    def _import_runtime(self, backend: str) -> bool:
        """Import a backend's runtime before bytes are measured; return True the first time.

        Its objects are frozen (`gc.freeze`), because a collection over them would delay frames by a tenth of a second.
        """
        if backend in self._runtimes:
            return False
        self._runtimes.add(backend)
        try:
            importlib.import_module(f"agent.inference.backends.{backend}")
        except Exception as error:  # noqa: BLE001 - a library may fail as it likes; the load says so, with a reason
            _LOG.info("event=runtime_failed backend=%s error=%r", backend, error)
        if "torch" not in sys.modules:  # torch is frozen by its backend; its models form cycles and must be collected
            gc.freeze()
        return True

    def _measure(  # noqa: PLR0913 - one load's figures, spelt out
        self,
        file: VerifiedFile,
        entry: Entry[Model],
        grown_bytes: int,
        device: DeviceCharge,
        times: LoadTimes,
        *,
        is_first: bool,
    ) -> None:
        """Replace the predicted charge by the measured memory, and remember that as the model's footprint.

        `grown_bytes`: growth of the process during the load. `is_first`: the load is the first of its backend.
        """
        key, backend = file.origin.footprint_key, file.origin.backend
        known = self._footprints.known(key)
        file_bytes = 0 if device.bytes else file.file_bytes  # because the weights lie in GPU memory, once
        if is_first:  # because most of the growth is the runtime's
            guess_bytes = max(grown_bytes - RUNTIMES_OWN_BYTES, file_bytes)
            own_bytes = min(known.bytes if known else guess_bytes, file.predicted.host_bytes)
        else:
            own_bytes = self._overhead.own_bytes(backend, grown_bytes, file_bytes, known)
        is_final = known is not None and known.is_final and known.bytes == own_bytes
        load_ms, warmup_ms = round(times.load_ms, 3), round(times.warmup_ms, 3)
        self._footprints.remember(key, Footprint(own_bytes, load_ms, warmup_ms, is_final, device.bytes))
        self._cache.measured(entry, own_bytes, grown_bytes, device)
        self._unloader.settle()
        reference, predicted_bytes = file.version.reference, file.predicted.total_bytes
        _LOG.info(
            "event=measured model=%s bytes=%d device_bytes=%d predicted_bytes=%d",
            reference,
            own_bytes,
            device.bytes,
            predicted_bytes,
        )

    def _hand_over(self, job: LoadJob, entry: Entry[Model], model: Model, times: LoadTimes) -> None:
        """Make the model resident: claimed by all lines that wait, reserved for those that announced it, atomically."""
        with job.turn:
            lines = job.require_wanted()
            reserved = {line: until_s for line, until_s in job.reservations().items() if line not in lines}
            until_s = job.requests_until_s if job.is_for_requests else 0.0
            reload_ms, is_preloaded = times.load_ms + times.warmup_ms, not (lines or reserved or until_s)
            self._cache.loaded(
                entry, model, lines, reserved, reload_ms, is_preloaded=is_preloaded, requests_until_s=until_s
            )
            job.times, job.entry = times, entry


def _predicted_higher(file: VerifiedFile, short_bytes: int) -> VerifiedFile:
    """Return `file` with its GPU prediction raised by `short_bytes` and by a quarter, because more may be missing."""
    predicted = file.predicted
    more_bytes = short_bytes + predicted.device_bytes // 4
    return replace(file, predicted=Amount(predicted.host_bytes, predicted.device_bytes + more_bytes))


def _in_device(file: VerifiedFile, model: Model) -> DeviceCharge:
    """Return the GPU memory that a loaded model takes; the predicted bytes where no allocator counts it."""
    counted_bytes = model.device_bytes
    if counted_bytes is None:
        return DeviceCharge(max(file.file_bytes, file.predicted.device_bytes), is_counted=False)
    return DeviceCharge(counted_bytes, is_counted=True)


def _ms_since(began_ns: int) -> float:
    return (time.monotonic_ns() - began_ns) / 1e6
