"""From a file to a model that is measured, warm and proven. Called by the loader's thread."""

import gc
import importlib
import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.inference.artifacts.artifact_store import ArtifactStore
from agent.inference.backends import Model, artifact_key, backend_of, require_openable
from agent.inference.memory import process_memory
from agent.inference.memory.cache import Cache, Entry
from agent.inference.memory.footprints import (
    Footprint,
    Footprints,
    guess_artifact_bytes,
    guess_source_bytes,
    tolerance_bytes,
)
from agent.inference.memory.runtime_overhead import RUNTIMES_OWN_BYTES, RuntimeOverhead
from agent.inference.memory.unloader import Unloader
from agent.inference.scheduling import thread_priority
from agent.inference.scheduling.thread_priority import LoadPriority
from agent.inference.swapping.file_check import FileCheck
from agent.inference.swapping.load_job import LoadTimes
from agent.inference.validation.golden import prove, warm_up
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)

Load = Callable[[ModelVersion, str, Path], Model]


@dataclass(frozen=True)
class VerifiedFile:
    """A file that is what the catalog says; `key` is its footprint's. `is_guessed`: it was never measured here.

    `backend` serves it: of a checkpoint, that is another one once it has an artifact.
    """

    version: ModelVersion
    backend: str
    key: str
    file_bytes: int
    predicted_bytes: int
    is_guessed: bool
    check_ms: float
    has_artifact: bool


@dataclass(frozen=True)
class LoadedModel:
    """A proven model. `before_bytes`: what the process held before it came."""

    entry: Entry[Model]
    model: Model
    before_bytes: int
    times: LoadTimes


class ModelLoader:
    """Checks, loads, measures, warms up and proves; each part at the rung that the loader says.

    `improve` is called with each version that was loaded and proven, or refused by a guess: it should have an artifact.

    The first load of a backend brings much of its runtime with it, which stays and is no model's: there a model is
    charged what it was measured to take at another time, else what it brought less RUNTIMES_OWN_BYTES.
    """

    def __init__(  # noqa: PLR0913 - the worker's composition, spelt out
        self,
        cache: Cache[Model],
        footprints: Footprints,
        releaser: Unloader,
        load: Load,
        *,
        account: RuntimeOverhead,
        improve: Callable[[ModelVersion], None],
        compute: str,
        cache_dir: Path,
    ) -> None:
        self._cache: Final = cache
        self._footprints: Final = footprints
        self._account: Final = account
        self._releaser: Final = releaser
        self._load: Final = load
        self._improve: Final = improve
        self._compute: Final = compute
        self._cache_dir: Final = cache_dir
        self._artifacts: Final = ArtifactStore(cache_dir)
        self._files: Final = FileCheck()
        self._runtimes: Final[set[str]] = set()

    def check(self, version: ModelVersion, rung: LoadPriority) -> VerifiedFile:
        """Compare the file to the catalog. Raises ModelError ("file_missing", "hash_mismatch"); charges nothing.

        Raises NotPreparedError where the file is a checkpoint, whose artifact comes first.
        Where an artifact is there to be loaded, which is hashed then, it is enough that the file did not change.
        """
        began_ns = time.monotonic_ns()
        artifact = self._artifacts.find(artifact_key(version, self._compute))
        with thread_priority.low_priority(rung):
            if artifact is None:
                require_openable(version, self._compute)
                file_bytes = self._files.require_right(version)
                guess_bytes = guess_source_bytes(file_bytes)
            else:
                self._files.require_unchanged(version)
                file_bytes = artifact.bytes
                guess_bytes = guess_artifact_bytes(artifact.bytes, artifact.imgsz)
        backend = backend_of(version, self._compute, is_prepared=artifact is not None)
        key = f"{version.sha256.lower()}/{backend}/{self._compute}/{version.imgsz or 'own'}"
        key += "/artifact" if artifact else ""
        known_bytes = self._footprints.measured_bytes(key)
        sizes = (file_bytes, known_bytes or guess_bytes, known_bytes is None)
        return VerifiedFile(version, backend, key, *sizes, _ms_since(began_ns), artifact is not None)

    def refused(self, candidate: VerifiedFile) -> None:
        """Note that there is no room for it; where only a guess says so, an artifact takes less, guessed better."""
        if candidate.is_guessed and not candidate.has_artifact:
            self._improve(candidate.version)

    def bring(
        self,
        candidate: VerifiedFile,
        entry: Entry[Model],
        rung: Callable[[], LoadPriority],
        require_wanted: Callable[[], object],
    ) -> LoadedModel:
        """Load what `entry` was charged for, measure it, warm it up and prove it.

        Raises ModelError and OutOfMemoryError, and what `rung` and `require_wanted` raise where nobody waits any more;
        then nothing stays behind, and the charge ends with the bytes.
        """
        self._releaser.expect(entry, candidate.key, candidate.backend)
        is_first = self._bring_runtime(candidate.backend)
        process_memory.trim()
        before_bytes = process_memory.process_bytes()
        model: Model | None = None
        loaded_ms = 0.0

        def load() -> None:
            nonlocal model, loaded_ms
            model = self._load(candidate.version, self._compute, self._cache_dir)
            loaded_ms = _ms_since(began_ns)
            self._require_hashed(candidate)
            require_wanted()
            warm_up(model)
            prove(model, candidate.version)

        began_ns = time.monotonic_ns()
        try:
            thread_priority.run_aside(load, rung())
            require_wanted()
            assert model is not None
            times = LoadTimes(candidate.check_ms + loaded_ms, _ms_since(began_ns) - loaded_ms)
            process_memory.trim()
            grown_bytes = process_memory.process_bytes() - before_bytes
            self._releaser.brought(entry, grown_bytes)
            self._measure(candidate, entry, self._own_bytes(candidate, grown_bytes, is_first=is_first), times)
        except BaseException as error:
            process_memory.let_go(error)
            self.undo(entry, model, before_bytes)
            raise
        self._improve(candidate.version)
        return LoadedModel(entry, model, before_bytes, times)

    def undo(self, entry: Entry[Model], model: Model | None, before_bytes: int) -> None:
        """Close what will not serve; the process should hold no more than before it came."""
        self._cache.abandon(entry)
        if model is not None:
            model.close()
        self._releaser.wait_freed(entry, before_bytes + entry.bytes)

    def _require_hashed(self, candidate: VerifiedFile) -> None:
        """Hash a file that was read: its artifact was of no use after all, or it changed since it was hashed."""
        version = candidate.version
        if not candidate.has_artifact:
            self._files.require_unchanged(version)
        elif not self._artifacts.find(artifact_key(version, self._compute)):
            self._files.require_right(version)

    def _own_bytes(self, candidate: VerifiedFile, grown_bytes: int, *, is_first: bool) -> int:
        """Say what the model takes of what the process grew by: the rest is its runtime's, and stays with it.

        Never below the file's own size, but where less was seen to come back: a device's memory may not be ours to see.
        """
        known = self._footprints.known(candidate.key)
        least_bytes = min(candidate.file_bytes, known.bytes) if known and known.is_final else candidate.file_bytes
        own_bytes = max(grown_bytes - (RUNTIMES_OWN_BYTES if is_first else 0), least_bytes)
        if is_first:
            return min(known.bytes if known else own_bytes, candidate.predicted_bytes)
        if known is None or not known.is_final:
            return own_bytes
        excess_bytes = own_bytes - known.bytes
        if abs(excess_bytes) <= tolerance_bytes(known.bytes):
            return known.bytes
        backend = candidate.backend
        if 0 < excess_bytes <= self._account.left_bytes(backend):
            self._account.keep(backend, excess_bytes)
            return known.bytes
        return own_bytes

    def _measure(self, candidate: VerifiedFile, entry: Entry[Model], measured_bytes: int, times: LoadTimes) -> None:
        """Correct the charge, and remember it."""
        known = self._footprints.known(candidate.key)
        is_final = known is not None and known.is_final and known.bytes == measured_bytes
        footprint = Footprint(measured_bytes, round(times.load_ms, 3), round(times.warmup_ms, 3), is_final)
        self._footprints.remember(candidate.key, footprint)
        self._cache.measured(entry, measured_bytes)
        predicted, reference = candidate.predicted_bytes, candidate.version.reference
        _LOG.info("%s takes %d KiB, predicted %d", reference, measured_bytes >> 10, predicted >> 10)

    def _bring_runtime(self, backend: str) -> bool:
        """Import a backend's runtime before anything is measured; True the first time.

        Its objects are frozen: a collection over them would hold up frames for a tenth of a second.
        """
        if backend in self._runtimes:
            return False
        self._runtimes.add(backend)
        try:
            importlib.import_module(f"agent.inference.backends.{backend}")
        except Exception as error:  # noqa: BLE001 - a library may fail as it likes; the load says so, with a reason
            _LOG.info("backend %s: %r", backend, error)
        if "torch" not in sys.modules:  # its backend froze what it brought; its models hold cycles, to be collected
            gc.freeze()
        return True


def _ms_since(began_ns: int) -> float:
    return (time.monotonic_ns() - began_ns) / 1e6
