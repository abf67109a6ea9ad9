"""The models that are likely to be needed, and the next of them to preload."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.inference.backends import Model, NotPreparedError
from agent.inference.memory.admission import NoFreeRoomError
from agent.inference.memory.cache import Cache
from agent.inference.memory.pools import Amount
from agent.inference.swapping.load_job import DroppedError, Failure, LoadJob
from agent.inference.swapping.retries import preload_failure
from agent.messages.errors import ModelError
from agent.messages.references import ModelVersion

_FIRST_S: Final = 60.0
_LONGEST_S: Final = 3600.0
"""The pause after a failed preload doubles from the first to the longest."""
_LOOK_S: Final = 10.0
"""Time between two looks at the files on which a proof failed."""
_REMEMBERED: Final = 256
"""Models with a reason not to preload them; one more makes the oldest forgotten."""


@dataclass(frozen=True)
class _Hindrance:
    """The reason why a model is not preloaded now."""

    again_s: float = 0.0
    """Not before then (monotonic)."""
    failures: int = 0
    """Failures in a row."""
    needed: Amount | None = None
    """Not before so much memory is free."""
    files: tuple[object, ...] | None = None
    """Not before the files on which its proof failed have changed; they are looked at again at `again_s`."""


class LikelyModels:
    """List of models to preload, the most likely first, with what keeps some of them from it.

    Threading: the load queue's `turn` guards every call.
    """

    def __init__(
        self, cache: Cache[Model], warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Store the arguments; `warn` is called once for each model whose preloads fail."""
        self._cache: Final = cache
        self._warn: Final = warn
        self._clock: Final = clock
        self._models: tuple[ModelVersion, ...] = ()
        self._hindered: Final[dict[ModelVersion, _Hindrance]] = {}

    def replace(self, models: tuple[ModelVersion, ...]) -> None:
        """Replace the list; what keeps a model from being preloaded is remembered also while the list lacks it."""
        self._models = models

    def has(self, version: ModelVersion) -> bool:
        """Return True where the list has `version`."""
        return version in self._models

    def next(self) -> ModelVersion | None:
        """Return the most likely model that is not in memory, may fit beside the others, and has not just failed."""
        known = self._cache.versions()
        return next((one for one in self._models if one not in known and self._may_load(one)), None)

    def note(self, job: LoadJob, failure: Failure | None) -> bool:
        """Record how any load ended; return True for a preload whose artifact is to be made first."""
        if job.is_requested or job.is_for_requests:
            self.ended(job.version, failure)
        elif failure is None:
            self.loaded(job.version)
        else:
            self.failed(job.version, preload_failure(job, failure))
            return isinstance(failure, NotPreparedError)
        return False

    def loaded(self, version: ModelVersion) -> None:
        """Record a preload, which is not repeated for a while where the model is evicted at once."""
        self._hinder(version, _Hindrance(self._clock() + _FIRST_S))

    def ended(self, version: ModelVersion, failure: Failure | None) -> None:
        """Record the end of a load, whoever asked for it."""
        if failure is None:
            self._hindered.pop(version, None)
        elif not isinstance(failure, DroppedError):
            self._hinder(version, self._hindrance(version, failure))

    def failed(self, version: ModelVersion, failure: Failure) -> None:
        """Record a failed preload, and warn of the first one in a row."""
        self.ended(version, failure)
        is_failure = not isinstance(failure, DroppedError | NoFreeRoomError | NotPreparedError)
        hindrance = self._hindered.get(version)
        if is_failure and hindrance is not None and hindrance.failures == 1:
            self._warn(f"{version.reference} could not be preloaded: {failure}")

    def _hinder(self, version: ModelVersion, hindrance: _Hindrance) -> None:
        self._hindered.pop(version, None)
        self._hindered[version] = hindrance
        if len(self._hindered) > _REMEMBERED:
            del self._hindered[next(iter(self._hindered))]

    def _may_load(self, version: ModelVersion) -> bool:
        kept = self._hindered.get(version)
        if kept is None:
            return True
        if kept.files is not None:
            return self._has_changed(version, kept, kept.files)
        if kept.needed is not None and not self._cache.budget.shortage(self._cache.used + kept.needed).is_short:
            return True
        return kept.again_s <= self._clock()

    def _has_changed(self, version: ModelVersion, kept: _Hindrance, files: tuple[object, ...]) -> bool:
        """Return True where the files of a failed proof have changed; looks at them once in a while only."""
        now_s = self._clock()
        if kept.again_s > now_s:
            return False
        has_changed = files != _files(version)
        self._hindered[version] = replace(kept, files=None) if has_changed else replace(kept, again_s=now_s + _LOOK_S)
        return has_changed

    def _hindrance(self, version: ModelVersion, failure: Failure) -> _Hindrance:
        failures = self._hindered.get(version, _Hindrance()).failures + 1
        again_s = self._clock() + min(_LONGEST_S, _FIRST_S * 2 ** min(failures - 1, 10))
        if isinstance(failure, NoFreeRoomError):
            return _Hindrance(again_s, failures, needed=failure.needed)
        if isinstance(failure, ModelError) and failure.reason == "proof_failed":
            return _Hindrance(self._clock() + _LOOK_S, failures, files=_files(version))
        return _Hindrance(again_s, failures)


def _files(version: ModelVersion) -> tuple[object, ...]:
    """Return size and time of change of the model's file, and of its golden pictures."""
    golden = Path(version.golden) if version.golden is not None else None
    try:
        pictures = sorted(golden.iterdir()) if golden is not None else []
        stats = [file.stat() for file in (Path(version.path), *pictures)]
    except OSError as error:
        return (error.errno,)
    return tuple((one.st_size, one.st_mtime_ns) for one in stats)
