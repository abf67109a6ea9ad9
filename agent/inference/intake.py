"""From a file to a model that is measured, warm and proven. Called by the loader's thread."""

import gc
import hashlib
import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.inference import memory, priority
from agent.inference.backends import Model, backend_of
from agent.inference.cache import Cache, Entry
from agent.inference.footprints import Footprints
from agent.inference.jobs import LoadTimes
from agent.inference.proof import prove, warm_up
from agent.inference.release import RUNTIMES_OWN_BYTES, Releaser
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_LOG: Final = logging.getLogger(__name__)
_CHUNK_BYTES: Final = 1 << 20

Load = Callable[[ModelVersion, str, Path], Model]


@dataclass(frozen=True)
class Candidate:
    """A file that is what the catalog says; `key` is its footprint's."""

    version: ModelVersion
    key: str
    file_bytes: int
    predicted_bytes: int
    check_ms: float


@dataclass(frozen=True)
class Arrival:
    """A proven model. `before_bytes`: what the process held before it came."""

    entry: Entry[Model]
    model: Model
    before_bytes: int
    times: LoadTimes


class Intake:
    """Checks, loads, measures, warms up and proves. `is_serving` says whether frames must go before loads.

    `arrived` is called with each version that was loaded and proven.

    The first load of a backend brings much of its runtime with it, which stays and is no model's: there a model is
    charged what it was measured to take at another time, else what it brought less RUNTIMES_OWN_BYTES.
    """

    def __init__(  # noqa: PLR0913 - the worker's composition, spelt out
        self,
        cache: Cache[Model],
        footprints: Footprints,
        releaser: Releaser,
        load: Load,
        is_serving: Callable[[], bool],
        *,
        arrived: Callable[[ModelVersion], None],
        compute: str,
        cache_dir: Path,
    ) -> None:
        self._cache: Final = cache
        self._footprints: Final = footprints
        self._releaser: Final = releaser
        self._load: Final = load
        self._is_serving: Final = is_serving
        self._arrived: Final = arrived
        self._compute: Final = compute
        self._cache_dir: Final = cache_dir
        self._runtimes: Final[set[str]] = set()
        self._has_loaded = False

    def check(self, version: ModelVersion) -> Candidate:
        """Compare the file to the catalog. Raises ModelError ("file_missing", "hash_mismatch"); charges nothing."""
        began_ns = time.monotonic_ns()
        with priority.low_priority(self._is_serving()):
            file_bytes = sum(_check_file(version, path, sha256) for path, sha256 in _files(version))
        key = f"{version.sha256.lower()}/{backend_of(version)}/{self._compute}/{version.imgsz or 'own'}"
        predicted_bytes = self._footprints.predicted_bytes(key, file_bytes)
        return Candidate(version, key, file_bytes, predicted_bytes, _ms_since(began_ns))

    def bring(self, candidate: Candidate, entry: Entry[Model], require_wanted: Callable[[], object]) -> Arrival:
        """Load what `entry` was charged for, measure it, warm it up and prove it.

        Raises ModelError and OutOfMemoryError, and what `require_wanted` raises where nobody waits any more; then
        nothing stays behind, and the charge ends with the bytes.
        """
        is_first = self._bring_runtime(backend_of(candidate.version))
        memory.trim()
        before_bytes = memory.process_bytes()
        model: Model | None = None
        began_ns = time.monotonic_ns()
        try:
            with priority.low_priority(self._has_loaded and self._is_serving()):
                model = self._load(candidate.version, self._compute, self._cache_dir)
                loaded_ms = _ms_since(began_ns)
                require_wanted()
                warm_up(model)
                prove(model, candidate.version)
            require_wanted()
            times = LoadTimes(candidate.check_ms + loaded_ms, _ms_since(began_ns) - loaded_ms)
            self._measure(candidate, entry, memory.process_bytes() - before_bytes, is_first=is_first)
        except BaseException:
            self.undo(entry, model, before_bytes)
            raise
        finally:
            self._has_loaded = True
        self._arrived(candidate.version)
        return Arrival(entry, model, before_bytes, times)

    def undo(self, entry: Entry[Model], model: Model | None, before_bytes: int) -> None:
        """Close what will not serve; the process should hold no more than before it came."""
        self._cache.abandon(entry)
        if model is not None:
            model.close()
        self._releaser.see_back(entry, before_bytes + entry.bytes)

    def _measure(self, candidate: Candidate, entry: Entry[Model], grown_bytes: int, *, is_first: bool) -> None:
        """Correct the charge: never below the file's own size, for the allocator may have had pages at hand."""
        known_bytes = self._footprints.measured_bytes(candidate.key)
        measured_bytes = max(grown_bytes, candidate.file_bytes)
        if is_first:
            own_bytes = max(grown_bytes - RUNTIMES_OWN_BYTES, candidate.file_bytes)
            measured_bytes = min(known_bytes or own_bytes, candidate.predicted_bytes)
        if not is_first or known_bytes is None:
            self._footprints.remember(candidate.key, measured_bytes)
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
        except ImportError as error:
            _LOG.info("backend %s: %s", backend, error)  # the load says so, with a reason
        gc.freeze()
        return True


def _files(version: ModelVersion) -> list[tuple[Path, str | None]]:
    """List a version's files with their sha256, None where the catalog gives none."""
    path = Path(version.path)
    files: list[tuple[Path, str | None]] = [(path, version.sha256)]
    if path.suffix.lower() == ".xml":
        files.append((path.with_suffix(".bin"), version.weights_sha256))  # the .xml says nothing of its weights
    return files


def _check_file(version: ModelVersion, path: Path, expected_sha256: str | None) -> int:
    """Return the bytes of a file that has the sha256 that the catalog gives, if it gives one."""
    digest = hashlib.sha256()
    file_bytes = 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
                file_bytes += len(chunk)
    except OSError as error:
        raise ModelError("file_missing", f"{version.reference}: {path} cannot be read ({error.strerror})") from error
    found = digest.hexdigest()
    if expected_sha256 is not None and found != expected_sha256.lower():
        raise ModelError("hash_mismatch", f"{path} has sha256 {found}, the catalog says {expected_sha256}")
    return file_bytes


def _ms_since(began_ns: int) -> float:
    return (time.monotonic_ns() - began_ns) / 1e6
